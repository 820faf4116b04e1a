CREATE TABLE IF NOT EXISTS call_members (
    call_id uuid NOT NULL REFERENCES calls (id) ON DELETE CASCADE,
    user_id uuid NOT NULL,
    state text NOT NULL,
    device_id text NOT NULL,
    PRIMARY KEY (call_id, user_id)
)
