-- Before which record of its chain another process has closed what was open, when it took this one for dead.
ALTER TABLE nodes ADD COLUMN closed_before BIGINT NOT NULL DEFAULT 0;
