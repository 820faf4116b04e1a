CREATE TABLE IF NOT EXISTS call_seen (
    user_id uuid PRIMARY KEY,
    seen_at timestamptz NOT NULL
)
