CREATE UNIQUE INDEX IF NOT EXISTS key_changes_by_number ON key_changes (number)
