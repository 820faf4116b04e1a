CREATE INDEX IF NOT EXISTS message_numbers_exceptional ON message_numbers (conversation_id, seq) WHERE state <> 'stored'
