CREATE TABLE IF NOT EXISTS key_tracking (
    user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    tracked_id uuid NOT NULL,
    PRIMARY KEY (user_id, tracked_id)
)
