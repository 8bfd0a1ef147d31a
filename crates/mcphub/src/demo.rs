//! `mcphub demo`: a hub with a server, two people and everything between them, to try out.
//!
//! It has folders of its own, and a second run takes up what the first one made.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mcphub_domain::group::Standing;
use mcphub_domain::server::{ServerState, StdioTarget};
use mcphub_domain::{
    Entropy, GroupName, KeyName, Membership, Rights, Role, SecretText, Server, ServerDefinition, ServerName,
    Template, Transport, User, UserName, Verdict,
};
use mcphub_hub::credentials::SlotState;
use mcphub_hub::groups::NewGrant;
use mcphub_hub::keys::{NewKey, ShownKey};
use mcphub_hub::servers::UpdateServer;
use mcphub_hub::users::NewUser;
use mcphub_hub::{Caller, Hub, Readiness};
use serde_json::{Map, Value, json};

use crate::Machine;
use crate::cli::{Answer, Failure, Running};
use crate::config::Config;

const PEOPLE: [&str; 2] = ["alice", "bob"];
const NAME: &str = "demo";
const SLOT: &str = "DEMO_TOKEN";
/// Tell the other commands where the demo has its folders.
const DATA_DIR: &str = "MCPHUB_DATA_DIR";
const KEY_DIR: &str = "MCPHUB_VAULT__KEY_DIR";
const HEADS_DIR: &str = "MCPHUB_AUDIT__HEADS_DIR";
/// How long the keys live that are shown at the start.
const KEY_LIFE: Duration = Duration::from_secs(24 * 3600);

/// Serves the demo until a signal comes.
pub(crate) async fn run(mut config: Config, machine: &Machine, json: bool) -> Result<Answer, Failure> {
    let base = config.data_dir.clone();
    let beside = base.join("demo-keys");
    config.move_to(base.join(NAME), beside.clone(), beside.clone());
    let running = Running::start(config, machine).await?;
    if running.hub.readiness() == Readiness::Sealed {
        let message =
            format!("the demo's key in {} is gone: remove {}", beside.display(), base.join(NAME).display());
        return Err(Failure::new("sealed", message));
    }
    let stage = Stage { hub: &running.hub, operator: running.hub.operator(), entropy: &machine.entropy };
    let people = stage.set(&machine.program).await?;
    let folders = [(DATA_DIR, base.join(NAME)), (KEY_DIR, beside.clone()), (HEADS_DIR, beside)];
    let guide = Guide { url: endpoint(&running.config), people, program: machine.program.clone(), folders };
    let announcement = if json { guide.to_json().to_string() } else { guide.to_text()? };
    running.serve(&announcement).await
}

fn endpoint(config: &Config) -> String {
    format!("{}/mcp", config.public_url.as_str().trim_end_matches('/'))
}

/// Is a hub on which the demo is set up.
struct Stage<'h> {
    hub: &'h Hub,
    operator: Caller,
    entropy: &'h Entropy,
}

impl Stage<'_> {
    /// Makes everything that isn't there yet, and a new key for everybody.
    async fn set(&self, program: &Path) -> Result<Vec<(UserName, ShownKey)>, Failure> {
        let server = self.server(program).await?;
        let mut people = Vec::new();
        for name in PEOPLE {
            let user = self.user(name.parse().map_err(fixed)?).await?;
            self.credential(&user, &server).await?;
            people.push((user.name.clone(), self.key(&user).await?, user));
        }
        let users: Vec<&User> = people.iter().map(|(.., user)| user).collect();
        self.group(&users, &server).await?;
        Ok(people.into_iter().map(|(name, key, _)| (name, key)).collect())
    }

    async fn server(&self, program: &Path) -> Result<Server, Failure> {
        let name: ServerName = NAME.parse().map_err(fixed)?;
        let definition = definition(program)?;
        let known = self.hub.list_servers(&self.operator).await?;
        let Some(server) = known.into_iter().find(|server| server.name == name) else {
            return Ok(self.hub.add_server(&self.operator, name, definition).await?);
        };
        if server.definition == definition && server.state == ServerState::Enabled {
            return Ok(server);
        }
        let update = UpdateServer {
            revision: server.revision,
            definition: Some(definition),
            state: Some(ServerState::Enabled),
        };
        Ok(self.hub.update_server(&self.operator, server.id, update).await?)
    }

    async fn user(&self, name: UserName) -> Result<User, Failure> {
        let known = self.hub.list_users(&self.operator).await?;
        match known.into_iter().find(|user| user.name == name) {
            Some(user) => Ok(user),
            None => {
                Ok(self.hub.add_user(&self.operator, NewUser { name, email: None, role: Role::User }).await?)
            }
        }
    }

    async fn credential(&self, user: &User, server: &Server) -> Result<(), Failure> {
        for slot in self.hub.list_credentials(&self.operator, user.id, server.id).await? {
            if slot.state != SlotState::Ready {
                let value = SecretText::new(hex(&self.entropy.bytes::<16>()));
                self.hub.set_credential(&self.operator, user.id, &slot.seen(server.id), &value).await?;
            }
        }
        Ok(())
    }

    /// Makes a new key; those of earlier runs are revoked, because nobody has them any more.
    async fn key(&self, user: &User) -> Result<ShownKey, Failure> {
        let name: KeyName = NAME.parse().map_err(fixed)?;
        for key in self.hub.list_keys(&self.operator, user.id).await? {
            if key.name == name && key.revoked_at.is_none() {
                self.hub.revoke_key(&self.operator, key.id, key.revision).await?;
            }
        }
        Ok(self.hub.create_key(&self.operator, NewKey { owner: user.id, name, life: KEY_LIFE }).await?)
    }

    async fn group(&self, users: &[&User], server: &Server) -> Result<(), Failure> {
        let name: GroupName = "demo-people".parse().map_err(fixed)?;
        let known = self.hub.list_groups(&self.operator).await?;
        let (group, members, grants) = match known.into_iter().find(|details| details.group.name == name) {
            Some(details) => (details.group, details.members, details.grants),
            None => (self.hub.add_group(&self.operator, name).await?, Vec::new(), Vec::new()),
        };
        for user in users.iter().filter(|user| members.iter().all(|member| member.user != user.id)) {
            let membership = Membership {
                group: group.id,
                user: user.id,
                standing: Standing::Member,
                expires_at: None,
                revision: 0,
            };
            self.hub.join_group(&self.operator, membership).await?;
        }
        if grants.iter().any(|grant| grant.server == server.id) {
            return Ok(());
        }
        let new = NewGrant {
            group: group.id,
            server: server.id,
            verdict: Verdict::Allow,
            rights: Rights::ALL,
            tools: Vec::new(),
            expires_at: None,
        };
        self.hub.add_grant(&self.operator, new).await?;
        Ok(())
    }
}

fn definition(program: &Path) -> Result<ServerDefinition, Failure> {
    let command = program.to_str().ok_or_else(|| Failure::new("io", "the program's path is not text"))?;
    let argument: Template = "demo-server".parse().map_err(fixed)?;
    let token: Template = format!("${{USER_{SLOT}}}").parse().map_err(fixed)?;
    Ok(ServerDefinition::new(Transport::Stdio(StdioTarget {
        command: command.to_owned(),
        args: vec![argument],
        env: [(SLOT.to_owned(), token)].into(),
    })))
}

fn fixed(error: impl std::fmt::Display) -> Failure {
    Failure::new("internal", error.to_string())
}

/// Writes a path as one word of a shell.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.to_string_lossy().replace('\'', r"'\''"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Tells people how to connect, and how to look behind the scenes.
struct Guide {
    url: String,
    people: Vec<(UserName, ShownKey)>,
    program: PathBuf,
    /// The demo's folders, by the variables that name them.
    folders: [(&'static str, PathBuf); 3],
}

impl Guide {
    fn to_json(&self) -> Value {
        let people = self.people.iter().map(|(name, key)| json!({ "name": name, "key": key.text.as_str() }));
        let folders: Map<String, Value> = self
            .folders
            .iter()
            .map(|(name, folder)| ((*name).to_owned(), folder.to_string_lossy().into()))
            .collect();
        json!({ "url": self.url, "people": people.collect::<Vec<_>>(), "variables": folders })
    }

    fn to_text(&self) -> Result<String, Failure> {
        let mut text = format!("The demo hub is ready: {}\n\n", self.url);
        let mut write = || -> Result<(), std::fmt::Error> {
            for (name, key) in &self.people {
                writeln!(text, "  {:<8} {}", name.as_str(), key.text.as_str())?;
            }
            if let Some((name, key)) = self.people.first() {
                let client =
                    serde_json::to_string_pretty(&self.client(&key.text)).map_err(|_| std::fmt::Error)?;
                writeln!(text, "\nA client's configuration for {name}:\n\n{client}\n")?;
                writeln!(text, "A call with {name}'s key (another key gives another fingerprint):\n")?;
                writeln!(text, "{}\n", self.curl(&key.text))?;
            }
            writeln!(text, "Its log, and whether it is whole, from another terminal:\n")?;
            writeln!(text, "{}\n", self.looks())?;
            write!(text, "Ctrl-C ends it. The keys are of this start alone: the next one makes others.")
        };
        write().map_err(fixed)?;
        Ok(text)
    }

    /// Is what looks at the demo from outside: the variables, and two commands.
    fn looks(&self) -> String {
        let variables = self.folders.iter().map(|(name, folder)| format!("{name}={}", quoted(folder)));
        let (variables, program) = (variables.collect::<Vec<_>>().join(" "), quoted(&self.program));
        format!("export {variables}\n{program} audit list\n{program} audit verify")
    }

    fn client(&self, key: &str) -> Value {
        let headers = json!({ "Authorization": format!("Bearer {key}") });
        json!({ "mcpServers": { "mcphub": { "type": "http", "url": self.url, "headers": headers } } })
    }

    fn curl(&self, key: &str) -> String {
        let body = json!({
            "jsonrpc": "2.0",
            "id": 1,
            "method": "tools/call",
            "params": {
                "name": "demo__fingerprint",
                "arguments": {},
                "_meta": {
                    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                    "io.modelcontextprotocol/clientCapabilities": {},
                },
            },
        });
        format!(
            "curl -sS {} -H 'Authorization: Bearer {key}' -H 'Content-Type: application/json' \
             -H 'Accept: application/json, text/event-stream' -H 'MCP-Protocol-Version: 2026-07-28' \
             -H 'Mcp-Method: tools/call' -H 'Mcp-Name: demo__fingerprint' -d '{body}'",
            self.url
        )
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::Command;

    use super::quoted;

    #[test]
    fn a_path_is_one_word_of_a_shell() {
        for path in ["/plain", "/with a blank", "/it's $HOME", r#"/"\`'"#] {
            let printed =
                Command::new("sh").args(["-c", &format!("printf %s {}", quoted(Path::new(path)))]).output();
            assert_eq!(String::from_utf8(printed.unwrap().stdout).unwrap(), path);
        }
    }
}
