CREATE INDEX IF NOT EXISTS message_numbers_events ON message_numbers (created_at) WHERE state = 'event'
