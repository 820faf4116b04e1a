CREATE TABLE IF NOT EXISTS key_backups (
    user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    version bigint NOT NULL,
    algorithm text NOT NULL,
    auth_data text NOT NULL,
    etag bigint NOT NULL,
    count bigint NOT NULL,
    deleted_at timestamptz,
    PRIMARY KEY (user_id, version)
)
