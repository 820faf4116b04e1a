CREATE TABLE IF NOT EXISTS conversations (
    id uuid PRIMARY KEY,
    kind text NOT NULL,
    name text NOT NULL,
    head bigint NOT NULL,
    life_seconds int NOT NULL,
    passing_since bigint,
    pair text UNIQUE,
    created_by uuid NOT NULL,
    client_id uuid,
    created_at timestamptz NOT NULL,
    UNIQUE (created_by, client_id)
)
