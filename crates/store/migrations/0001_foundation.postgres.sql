-- Run by the migrator, who owns everything. {migrator}, {app} and {worker} are the three logins.
GRANT USAGE ON SCHEMA public TO {app}, {worker};

GRANT SELECT ON install, vault_secrets, world, changes, users, paths, groups, memberships, servers, grants,
    tools, shared_values, hub_keys, person_keys, audit_segments, audit_named, audit_index, audit_indexed, nodes,
    credentials, sessions, schema_version TO {app}, {worker};

GRANT INSERT, UPDATE ON install, vault_secrets TO {app};
GRANT UPDATE ON world TO {app};
GRANT INSERT ON changes, audit_segments, audit_named TO {app};
GRANT INSERT, UPDATE ON users, credentials, hub_keys, sessions, person_keys, shared_values, nodes TO {app};
GRANT INSERT, UPDATE, DELETE ON paths, groups, memberships, servers, grants, tools TO {app};
GRANT DELETE ON credentials, shared_values TO {app};

GRANT INSERT, UPDATE, DELETE ON audit_index, audit_indexed TO {worker};
GRANT UPDATE ON nodes TO {worker};
GRANT DELETE ON changes, sessions, nodes TO {worker};

-- The records stay as they were written: compressing them costs time with every call, and a search of
-- the files for what must not be there would miss it.
ALTER TABLE audit_segments ALTER COLUMN body SET STORAGE EXTERNAL, ALTER COLUMN leaves SET STORAGE EXTERNAL;

CREATE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS
'BEGIN RAISE EXCEPTION ''% is append-only'', TG_TABLE_NAME; END';
CREATE TRIGGER audit_segments_keep BEFORE UPDATE OR DELETE ON audit_segments
    FOR EACH ROW EXECUTE FUNCTION audit_is_append_only();
CREATE TRIGGER audit_segments_stay BEFORE TRUNCATE ON audit_segments
    FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only();
CREATE TRIGGER audit_named_keep BEFORE UPDATE OR DELETE ON audit_named
    FOR EACH ROW EXECUTE FUNCTION audit_is_append_only();
CREATE TRIGGER audit_named_stay BEFORE TRUNCATE ON audit_named
    FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only();

-- Row security. The context is set inside each transaction; outside of one it is NULL, and after
-- one it is '', and neither equals an id.
ALTER TABLE users ENABLE ROW LEVEL SECURITY;
ALTER TABLE users FORCE ROW LEVEL SECURITY;
ALTER TABLE credentials ENABLE ROW LEVEL SECURITY;
ALTER TABLE credentials FORCE ROW LEVEL SECURITY;
ALTER TABLE hub_keys ENABLE ROW LEVEL SECURITY;
ALTER TABLE hub_keys FORCE ROW LEVEL SECURITY;
ALTER TABLE sessions ENABLE ROW LEVEL SECURITY;
ALTER TABLE sessions FORCE ROW LEVEL SECURITY;
ALTER TABLE person_keys ENABLE ROW LEVEL SECURITY;
ALTER TABLE person_keys FORCE ROW LEVEL SECURITY;

-- The directory of people is part of the world that every decision reads.
CREATE POLICY app_reads ON users TO {app} USING (true) WITH CHECK (true);
CREATE POLICY app_owner ON credentials TO {app}
    USING (owner_id = current_setting('mcphub.principal', true))
    WITH CHECK (owner_id = current_setting('mcphub.principal', true));
CREATE POLICY app_owner ON hub_keys TO {app}
    USING (owner_id = current_setting('mcphub.principal', true))
    WITH CHECK (owner_id = current_setting('mcphub.principal', true));
CREATE POLICY app_owner ON sessions TO {app}
    USING (owner_id = current_setting('mcphub.principal', true))
    WITH CHECK (owner_id = current_setting('mcphub.principal', true));
CREATE POLICY app_owner ON person_keys TO {app}
    USING (owner_id = current_setting('mcphub.principal', true))
    WITH CHECK (owner_id = current_setting('mcphub.principal', true));

CREATE POLICY worker_reads ON users FOR SELECT TO {worker} USING (true);
CREATE POLICY worker_reads ON credentials FOR SELECT TO {worker} USING (true);
CREATE POLICY worker_reads ON hub_keys FOR SELECT TO {worker} USING (true);
CREATE POLICY worker_all ON sessions TO {worker} USING (true) WITH CHECK (true);
CREATE POLICY worker_reads ON person_keys FOR SELECT TO {worker} USING (true);

-- FORCE blinds the owner too, so migrations of data need their own policy.
CREATE POLICY migrator_all ON users TO {migrator} USING (true) WITH CHECK (true);
CREATE POLICY migrator_all ON credentials TO {migrator} USING (true) WITH CHECK (true);
CREATE POLICY migrator_all ON hub_keys TO {migrator} USING (true) WITH CHECK (true);
CREATE POLICY migrator_all ON sessions TO {migrator} USING (true) WITH CHECK (true);
CREATE POLICY migrator_all ON person_keys TO {migrator} USING (true) WITH CHECK (true);
