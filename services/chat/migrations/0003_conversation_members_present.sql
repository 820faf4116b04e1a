CREATE UNIQUE INDEX IF NOT EXISTS conversation_members_present ON conversation_members (user_id, conversation_id) WHERE left_seq IS NULL
