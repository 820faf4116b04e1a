CREATE INDEX IF NOT EXISTS call_members_by_user ON call_members (user_id)
