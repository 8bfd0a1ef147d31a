-- The log is append-only for everybody who comes through SQL. Whoever owns the file can still change
-- it with other tools: what finds that is `mcphub audit verify`, by the signed heads outside.
CREATE TRIGGER audit_segments_keep BEFORE UPDATE ON audit_segments
BEGIN SELECT RAISE(ABORT, 'audit_segments is append-only'); END;

CREATE TRIGGER audit_segments_stay BEFORE DELETE ON audit_segments
BEGIN SELECT RAISE(ABORT, 'audit_segments is append-only'); END;

-- `INSERT OR REPLACE` deletes without asking the trigger above.
CREATE TRIGGER audit_segments_once BEFORE INSERT ON audit_segments
WHEN EXISTS (SELECT 1 FROM audit_segments s WHERE s.chain = NEW.chain AND s.first = NEW.first)
BEGIN SELECT RAISE(ABORT, 'audit_segments is append-only'); END;

CREATE TRIGGER audit_named_keep BEFORE UPDATE ON audit_named
BEGIN SELECT RAISE(ABORT, 'audit_named is append-only'); END;

CREATE TRIGGER audit_named_stay BEFORE DELETE ON audit_named
BEGIN SELECT RAISE(ABORT, 'audit_named is append-only'); END;
