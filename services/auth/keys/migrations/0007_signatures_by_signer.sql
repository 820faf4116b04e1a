CREATE INDEX IF NOT EXISTS key_signatures_by_signer ON key_signatures (signer_id, signer_key)
