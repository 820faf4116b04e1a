CREATE TABLE IF NOT EXISTS call_hosts (
    host text PRIMARY KEY,
    epoch bigint NOT NULL,
    address text NOT NULL,
    leaving boolean NOT NULL,
    expires_at timestamptz NOT NULL
)
