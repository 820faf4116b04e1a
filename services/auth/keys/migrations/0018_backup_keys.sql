CREATE TABLE IF NOT EXISTS key_backup_keys (
    user_id uuid NOT NULL,
    version bigint NOT NULL,
    room_id text NOT NULL,
    session_id text NOT NULL,
    first_message_index bigint NOT NULL,
    forwarded_count bigint NOT NULL,
    is_verified bool NOT NULL,
    session_data text NOT NULL,
    PRIMARY KEY (user_id, version, room_id, session_id),
    FOREIGN KEY (user_id, version) REFERENCES key_backups (user_id, version) ON DELETE CASCADE
)
