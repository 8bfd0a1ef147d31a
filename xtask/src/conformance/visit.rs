//! The hub as the client of the suite's servers: a hub of its own, and whoever it works for, played by a program.

use std::path::Path;
use std::process::Command;

use super::house::{Beside, Setting};
use crate::failure::Failure;
use crate::tools::node::Node;

/// The name that the hub is known by: the suite wants to see it in the address of the hub's own description.
const HOST: &str = "conformance-test.local";

/// Is a hub that serves, and what the program needs to know of it.
pub(crate) struct Visitor {
    environment: Vec<(&'static str, String)>,
    command: String,
    _hub: Beside,
}

impl Visitor {
    pub(crate) fn start(repository: &Path, python: &Path, results: &Path) -> Result<Self, Failure> {
        let public = ("MCPHUB_PUBLIC_URL", format!("https://{HOST}"));
        let setting = Setting::new(repository, results.join("visitor"), public)?;
        setting.run(&["user", "add", "root", "--role", "admin"])?;
        setting.run(&["user", "add", "alice", "--role", "user"])?;
        setting.run(&["group", "add", "people"])?;
        setting.run(&["group", "join", "people", "alice"])?;
        let groups = setting.run(&["group", "list", "--json"])?;
        let (admin, person) = (setting.key("root")?, setting.key("alice")?);
        let (hub, address) = setting.serve()?;
        let environment = vec![
            ("HUB_SUITE_HUB", address),
            ("HUB_SUITE_HOST", HOST.to_owned()),
            ("HUB_SUITE_ADMIN", admin),
            ("HUB_SUITE_PERSON", person),
            ("HUB_SUITE_GROUP", id(&groups)?),
        ];
        let program = repository.join("peers/python/conformance_client.py");
        let command = format!("{} {}", python.display(), program.display());
        Ok(Self { environment, command, _hub: hub })
    }

    /// Makes the run of what a revision requires of clients.
    pub(crate) fn suite(&self, node: &Node, revision: &str) -> Command {
        let mut suite = Command::new(&node.program);
        suite.arg(&node.conformance).args(["client", "--command", &self.command, "--requirements", revision]);
        suite.envs(self.environment.iter().map(|(name, value)| (name, value)));
        suite
    }
}

/// Finds the only id in what a command printed.
fn id(printed: &str) -> Result<String, Failure> {
    let mut after = printed.split('"').skip_while(|part| *part != "id").skip(2);
    let none = || Failure::step("conformance", format!("no id in {printed}"));
    after.next().map(str::to_owned).ok_or_else(none)
}

#[cfg(test)]
mod tests {
    use super::id;

    #[test]
    fn the_id_is_found() {
        assert_eq!(id(r#"[{"id": "1-2","name":"people"}]"#).unwrap(), "1-2");
        assert!(id("[]").is_err());
    }
}
