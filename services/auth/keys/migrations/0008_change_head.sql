CREATE TABLE IF NOT EXISTS key_change_head (
    id int PRIMARY KEY,
    number bigint NOT NULL
)
