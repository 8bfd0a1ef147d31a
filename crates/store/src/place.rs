//! Where everything is kept, and what that is called outside of it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{self, Path, PathBuf};

use sqlx::postgres::PgConnectOptions;

use crate::db::DatabaseUrls;
use crate::error::StoreError;

/// The name of the SQLite file in the data directory.
const FILE: &str = "mcphub.db";
/// What stands before the path of such a file in a place's name.
const SQLITE: &str = "sqlite:";

/// Says where everything is kept.
#[derive(Clone, Debug)]
pub struct Place {
    /// The folder of the SQLite file, the lock and the logs of child processes.
    pub data_dir: PathBuf,
    /// Which database.
    pub database: DatabaseUrls,
}

impl Place {
    /// Is the SQLite file, if it is one.
    pub(crate) fn file(&self) -> PathBuf {
        self.data_dir.join(FILE)
    }

    /// Says whether there may be data: a file is looked for, a PostgreSQL is asked only when it is opened.
    pub fn may_have_data(&self) -> bool {
        match self.database {
            DatabaseUrls::Sqlite => self.file().exists(),
            DatabaseUrls::Postgres { .. } => true,
        }
    }

    /// Names the database without its logins: `sqlite:/folder/mcphub.db`, or `postgres:host:port/name`.
    pub fn name(&self) -> Result<String, StoreError> {
        match &self.database {
            DatabaseUrls::Sqlite => {
                // Whatever links lead there, it is one place.
                let folder = fs::canonicalize(&self.data_dir).or_else(|_| path::absolute(&self.data_dir));
                let folder = folder.unwrap_or_else(|_| self.data_dir.clone());
                Ok(format!("{SQLITE}{}", folder.join(FILE).display()))
            }
            DatabaseUrls::Postgres { app, .. } => {
                let options: PgConnectOptions = app.parse()?;
                let name = options.get_database().unwrap_or_else(|| options.get_username());
                Ok(format!("postgres:{}:{}/{name}", options.get_host(), options.get_port()))
            }
        }
    }

    /// Says whether the place of a name is gone. Of a PostgreSQL nobody can tell without its logins, nor of a file in a
    /// folder that can't be read.
    pub fn is_gone(name: &str) -> bool {
        file_of(name).is_some_and(|file| matches!(file.try_exists(), Ok(false)))
    }

    /// Says whether two names are certainly of two places: of two files that are there, which aren't one file by two ways. A
    /// PostgreSQL may have several names.
    pub fn differ(one: &str, other: &str) -> bool {
        let file = |name| Some(fs::metadata(file_of(name)?).ok().map(|file| (file.dev(), file.ino())));
        matches!((file(one), file(other)), (Some(one), Some(Some(other))) if one != Some(other))
    }
}

fn file_of(name: &str) -> Option<&Path> {
    name.strip_prefix(SQLITE).map(Path::new)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::symlink;

    use super::{DatabaseUrls, FILE, Place};

    #[test]
    fn a_place_has_one_name_whatever_leads_there_and_no_login_is_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let (real, link) = (folder.path().join("real"), folder.path().join("link"));
        std::fs::create_dir(&real).unwrap();
        symlink(&real, &link).unwrap();
        let place = |data_dir| Place { data_dir, database: DatabaseUrls::Sqlite };
        let name = place(real.clone()).name().unwrap();
        assert_eq!(place(link).name().unwrap(), name);
        assert!(name.starts_with("sqlite:/") && name.ends_with("/real/mcphub.db"), "{name}");
        assert!(Place::is_gone(&name) && !place(real.clone()).may_have_data());
        File::create(real.join(FILE)).unwrap();
        assert!(!Place::is_gone(&name) && place(real.clone()).may_have_data());
        let urls = |url: &str| DatabaseUrls::Postgres { app: url.to_owned(), worker: String::new() };
        let postgres = Place {
            data_dir: real,
            database: urls("postgres://who:secret@db.test:5433/hub?sslmode=require"),
        };
        assert_eq!(postgres.name().unwrap(), "postgres:db.test:5433/hub");
        assert!(!Place::is_gone("postgres:db.test:5433/hub"));
        let named = |file: &str| format!("sqlite:{}", folder.path().join(file).display());
        std::fs::hard_link(folder.path().join("real").join(FILE), folder.path().join("twin")).unwrap();
        File::create(folder.path().join("other")).unwrap();
        assert!(!Place::differ(&name, &named("twin")), "one file by two ways");
        assert!(
            !Place::differ(&name, &named("nothing")) && !Place::differ(&name, "postgres:db.test:5433/hub")
        );
        assert!(Place::differ(&name, &named("other")));
    }
}
