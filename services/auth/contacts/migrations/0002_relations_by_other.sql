CREATE INDEX IF NOT EXISTS relations_by_other ON relations (other_id)
