//! The configuration as it is written, before anything is checked.

use std::collections::BTreeMap;
use std::path::PathBuf;

use mcphub_hub::Namespaces;
use serde::Deserialize;

use super::Profile;

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Raw {
    pub(super) listen: Option<String>,
    pub(super) data_dir: Option<PathBuf>,
    pub(super) public_url: Option<String>,
    pub(super) behind_proxy: bool,
    pub(super) profile: Profile,
    pub(super) database: Database,
    pub(super) vault: Vault,
    pub(super) audit: Audit,
    pub(super) limits: Limits,
    pub(super) children: Children,
    pub(super) http: Http,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Database {
    pub(super) url: Option<String>,
    pub(super) worker_url: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Vault {
    pub(super) key_dir: Option<PathBuf>,
    pub(super) provider: KeyProvider,
    pub(super) key: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum KeyProvider {
    #[default]
    File,
    Env,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Audit {
    pub(super) heads_dir: Option<PathBuf>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Limits {
    pub(super) calls_per_minute: Option<u32>,
    pub(super) concurrent_calls: Option<u32>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Children {
    pub(super) path: Option<String>,
    pub(super) environment: BTreeMap<String, String>,
    pub(super) idle_seconds: Option<u64>,
    pub(super) processes_per_person: Option<usize>,
    pub(super) processes: Option<usize>,
    pub(super) namespaces: Namespaces,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Http {
    pub(super) allowed_hosts: Vec<String>,
    pub(super) allowed_origins: Vec<String>,
}
