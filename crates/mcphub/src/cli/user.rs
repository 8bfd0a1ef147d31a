//! `mcphub user`: people.

use clap::Subcommand;
use mcphub_domain::user::{Auditor, UserState};
use mcphub_domain::{Role, User, UserName};
use mcphub_hub::users::{NewUser, UpdateUser};
use serde_json::{Value, json};

use super::answer::{Answer, Table, list_or_dash, or_dash};
use super::desk::Desk;
use super::failure::Failure;

#[derive(Subcommand, Debug)]
pub(crate) enum UserCommand {
    /// Add a person; she is in no group, so she can call nothing yet
    Add {
        name: UserName,
        /// What she may administrate: viewer, user, manager or admin
        #[arg(long, default_value = "user")]
        role: Role,
        #[arg(long)]
        email: Option<String>,
    },
    /// List all people
    List,
    /// Show one person
    Show { name: UserName },
    /// Change a person's role or e-mail address, or whether she may read the audit log
    #[command(group = clap::ArgGroup::new("change").required(true).multiple(true))]
    Update {
        name: UserName,
        #[arg(long, group = "change")]
        role: Option<Role>,
        #[arg(long, group = "change")]
        email: Option<String>,
        /// yes or no
        #[arg(long, group = "change")]
        auditor: Option<Auditor>,
    },
    /// Let a disabled person in again
    Enable { name: UserName },
    /// Shut a person out; everything that she has open ends within a second
    Disable { name: UserName },
}

impl UserCommand {
    pub(crate) async fn run(self, desk: &Desk) -> Result<Answer, Failure> {
        match self {
            Self::Add { name, role, email } => {
                let user = desk.hub.add_user(&desk.operator, NewUser { name, email, role }).await?;
                Ok(Answer::new(format!("added {} as {}", user.name, user.role), view(&user)))
            }
            Self::List => list(desk).await,
            Self::Show { name } => show(desk, &name).await,
            Self::Update { name, role, email, auditor } => {
                let change = |update| UpdateUser { role, email, auditor, ..update };
                update(desk, &name, change, "changed").await
            }
            Self::Enable { name } => {
                update(
                    desk,
                    &name,
                    |update| UpdateUser { state: Some(UserState::Active), ..update },
                    "enabled",
                )
                .await
            }
            Self::Disable { name } => {
                let change = |update| UpdateUser { state: Some(UserState::Disabled), ..update };
                update(desk, &name, change, "disabled").await
            }
        }
    }
}

async fn update(
    desk: &Desk,
    name: &UserName,
    change: impl FnOnce(UpdateUser) -> UpdateUser,
    done: &str,
) -> Result<Answer, Failure> {
    let before = desk.user(name).await?;
    let update = change(UpdateUser::based_on(before.revision));
    let user = desk.hub.update_user(&desk.operator, before.id, update).await?;
    Ok(Answer::new(format!("{done} {}", user.name), view(&user)))
}

async fn list(desk: &Desk) -> Result<Answer, Failure> {
    let users = desk.users().await?;
    let mut table = Table::new(
        &["NAME", "ROLE", "STATE", "AUDITOR", "EMAIL"],
        "nobody yet: add a person with `mcphub user add NAME`",
    );
    for user in &users {
        table.row([
            user.name.to_string(),
            user.role.to_string(),
            user.state.to_string(),
            user.auditor.to_string(),
            or_dash(user.email.as_ref()),
        ]);
    }
    Ok(Answer::table(&table, users.iter().map(view).collect()))
}

async fn show(desk: &Desk, name: &UserName) -> Result<Answer, Failure> {
    let id = desk.user(name).await?.id;
    let user = desk.hub.find_user(&desk.operator, id).await?;
    let groups: Vec<String> = desk
        .groups()
        .await?
        .into_iter()
        .filter(|details| details.members.iter().any(|member| member.user == id && member.is_live(desk.now)))
        .map(|details| details.group.name.to_string())
        .collect();
    let mut table = Table::new(&["NAME", user.name.as_str()], "");
    let rows = [
        ("ID", user.id.to_string()),
        ("ROLE", user.role.to_string()),
        ("STATE", user.state.to_string()),
        ("AUDITOR", user.auditor.to_string()),
        ("EMAIL", or_dash(user.email.as_ref())),
        ("GROUPS", list_or_dash(&groups)),
        ("ADDED", user.created_at.to_string()),
    ];
    rows.into_iter().for_each(|(label, value)| table.row([label.to_owned(), value]));
    let mut json = view(&user);
    if let Some(fields) = json.as_object_mut() {
        fields.insert("groups".to_owned(), json!(groups));
    }
    Ok(Answer::new(table.to_string(), json))
}

fn view(user: &User) -> Value {
    json!({
        "id": user.id,
        "name": user.name,
        "email": user.email,
        "role": user.role,
        "auditor": user.auditor,
        "state": user.state,
        "revision": user.revision,
        "created_at": user.created_at.to_string(),
    })
}
