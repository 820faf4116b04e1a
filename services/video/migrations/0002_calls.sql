CREATE TABLE IF NOT EXISTS calls (
    id uuid PRIMARY KEY,
    conversation_id uuid,
    direct boolean NOT NULL,
    media text NOT NULL,
    started_by uuid NOT NULL,
    client_id uuid NOT NULL,
    started_at timestamptz NOT NULL,
    answered_at timestamptz,
    ended_at timestamptz,
    reason text NOT NULL,
    owner_host text,
    owner_epoch bigint,
    fence bigint NOT NULL,
    empty_since timestamptz,
    logged boolean NOT NULL,
    UNIQUE (started_by, client_id)
)
