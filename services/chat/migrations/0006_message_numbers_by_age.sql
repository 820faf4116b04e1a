CREATE INDEX IF NOT EXISTS message_numbers_by_age ON message_numbers (created_at) WHERE state = 'stored'
