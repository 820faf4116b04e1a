CREATE TABLE IF NOT EXISTS user_audit (
    id uuid PRIMARY KEY,
    done_at timestamptz NOT NULL,
    done_by text NOT NULL,
    action text NOT NULL,
    username text NOT NULL,
    detail text NOT NULL
)
