//! Servers and their tools.

use std::collections::HashMap;

use mcphub_domain::{Server, ServerDefinition, ServerId, Timestamp, Tool};

use crate::error::StoreError;
use crate::snapshot::ChangeKind;
use crate::statement::{Row, Tx, values};
use crate::store::Store;
use crate::tx::WriteTx;

/// Is a tool with its definition, as its server sent it.
#[derive(Clone, Debug)]
pub struct StoredTool {
    /// What the hub knows of it.
    pub tool: Tool,
    /// The definition's JSON.
    pub definition: Vec<u8>,
}

impl WriteTx {
    /// Adds a server. A name that a group or a server has is an error.
    pub async fn add_server(&mut self, server: &Server) -> Result<(), StoreError> {
        self.take_path(server.name.as_str(), "server", server.id.to_string()).await?;
        self.tx
            .execute(
                "INSERT INTO servers (id, name, definition, state, revision, created_at)
                 VALUES ($1, $2, $3, $4, $5, $6)",
                values![
                    server.id.to_string(),
                    server.name.as_str(),
                    definition(server)?,
                    server.state.as_str(),
                    server.revision,
                    server.created_at.as_micros(),
                ],
            )
            .await?;
        self.changed(ChangeKind::Server, server.id);
        Ok(())
    }

    /// Replaces a server's row that still has the revision before `server.revision`.
    pub async fn put_server(&mut self, server: &Server) -> Result<(), StoreError> {
        let changed = self
            .tx
            .execute(
                "UPDATE servers SET definition = $2, state = $3, revision = $4
                  WHERE id = $1 AND revision = $4 - 1",
                values![server.id.to_string(), definition(server)?, server.state.as_str(), server.revision],
            )
            .await?;
        if changed == 0 {
            return Err(StoreError::stale(format!("server {}", server.name)));
        }
        self.changed(ChangeKind::Server, server.id);
        Ok(())
    }

    /// Removes a server with everything that is about it: tools, grants, shared values, credentials.
    pub async fn remove_server(&mut self, server: &Server) -> Result<(), StoreError> {
        let id = server.id.to_string();
        let groups = self
            .tx
            .all("SELECT DISTINCT group_id FROM grants WHERE server_id = $1", values![id.as_str()])
            .await?;
        let gone = self
            .tx
            .execute(
                "DELETE FROM servers WHERE id = $1 AND revision = $2",
                values![id.as_str(), server.revision],
            )
            .await?;
        if gone == 0 {
            return Err(StoreError::stale(format!("server {}", server.name)));
        }
        self.tx.execute("DELETE FROM paths WHERE name = $1", values![server.name.as_str()]).await?;
        self.changed(ChangeKind::Server, server.id);
        for row in &groups {
            self.changed(ChangeKind::Group, row.parse::<mcphub_domain::GroupId>(0)?);
        }
        Ok(())
    }

    /// Keeps others from changing a server or its tools until this ends, if it still has a revision.
    /// Says when it was last listed.
    pub async fn lock_server(&mut self, server: &Server) -> Result<Option<Timestamp>, StoreError> {
        let row = self
            .tx
            .one(
                "UPDATE servers SET listed_at = listed_at WHERE id = $1 AND revision = $2 RETURNING listed_at",
                values![server.id.to_string(), server.revision],
            )
            .await?
            .ok_or_else(|| StoreError::stale(format!("server {}", server.name)))?;
        Ok(row.get::<Option<i64>>(0)?.map(Timestamp::from_micros))
    }

    /// Loads the tools of a server as this change finds them.
    pub async fn tools(&mut self, server: ServerId) -> Result<Vec<StoredTool>, StoreError> {
        load_tools(&mut self.tx, server).await
    }

    /// Replaces the tools of a server and notes when it was listed.
    pub async fn put_tools(&mut self, server: ServerId, tools: &[StoredTool]) -> Result<(), StoreError> {
        let id = server.to_string();
        self.tx.execute("DELETE FROM tools WHERE server_id = $1", values![id.as_str()]).await?;
        for stored in tools {
            self.insert_tool(stored).await?;
        }
        self.tx
            .execute(
                "UPDATE servers SET listed_at = $2 WHERE id = $1",
                values![id.as_str(), self.now.as_micros()],
            )
            .await?;
        self.changed(ChangeKind::Tools, server);
        Ok(())
    }

    /// Changes what the hub holds of one tool that still has the revision before `tool.revision` and
    /// the definition that was looked at.
    pub async fn put_tool(&mut self, tool: &Tool) -> Result<(), StoreError> {
        // Whoever replaces the whole list holds the server's row, and must see this change or wait.
        self.tx
            .execute(
                "UPDATE servers SET listed_at = listed_at WHERE id = $1",
                values![tool.server.to_string()],
            )
            .await?;
        let changed = self
            .tx
            .execute(
                "UPDATE tools SET effect = $3, state = $4, revision = $6
                  WHERE server_id = $1 AND name = $2 AND digest = $5 AND revision = $6 - 1",
                values![
                    tool.server.to_string(),
                    tool.name.as_str(),
                    tool.effect.as_str(),
                    tool.state.as_str(),
                    tool.digest.to_string(),
                    tool.revision,
                ],
            )
            .await?;
        if changed == 0 {
            return Err(StoreError::stale(format!("tool {}", tool.name)));
        }
        self.changed(ChangeKind::Tools, tool.server);
        Ok(())
    }

    async fn insert_tool(&mut self, stored: &StoredTool) -> Result<(), StoreError> {
        let tool = &stored.tool;
        self.tx
            .execute(
                "INSERT INTO tools (server_id, name, effect, state, digest, definition, position, revision)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
                values![
                    tool.server.to_string(),
                    tool.name.as_str(),
                    tool.effect.as_str(),
                    tool.state.as_str(),
                    tool.digest.to_string(),
                    stored.definition.as_slice(),
                    tool.position,
                    tool.revision,
                ],
            )
            .await?;
        Ok(())
    }
}

impl Store {
    /// Loads the tools of a server with their definitions.
    pub async fn tools(&self, server: ServerId) -> Result<Vec<StoredTool>, StoreError> {
        load_tools(&mut self.worker().read().await?, server).await
    }

    /// Says when a server's tools were last listed.
    pub async fn listed_at(&self, server: ServerId) -> Result<Option<Timestamp>, StoreError> {
        let row = self
            .worker()
            .read()
            .await?
            .one("SELECT listed_at FROM servers WHERE id = $1", values![server.to_string()])
            .await?;
        let listed: Option<i64> = row.map_or(Ok(None), |row| row.get(0))?;
        Ok(listed.map(Timestamp::from_micros))
    }
}

fn definition(server: &Server) -> Result<String, StoreError> {
    serde_json::to_string(&server.definition).map_err(StoreError::damaged)
}

pub(crate) async fn load_servers(tx: &mut Tx) -> Result<Vec<Server>, StoreError> {
    let rows =
        tx.all("SELECT id, name, definition, state, revision, created_at FROM servers", values![]).await?;
    rows.iter().map(from_row).collect()
}

pub(crate) async fn load_server(tx: &mut Tx, id: ServerId) -> Result<Option<Server>, StoreError> {
    let row = tx
        .one(
            "SELECT id, name, definition, state, revision, created_at FROM servers WHERE id = $1",
            values![id.to_string()],
        )
        .await?;
    row.as_ref().map(from_row).transpose()
}

pub(crate) async fn load_tools(tx: &mut Tx, server: ServerId) -> Result<Vec<StoredTool>, StoreError> {
    let rows = tx
        .all(
            "SELECT server_id, name, effect, state, digest, definition, position, revision FROM tools
              WHERE server_id = $1",
            values![server.to_string()],
        )
        .await?;
    rows.iter().map(tool).collect()
}

pub(crate) async fn load_all_tools(tx: &mut Tx) -> Result<HashMap<ServerId, Vec<StoredTool>>, StoreError> {
    let rows = tx
        .all(
            "SELECT server_id, name, effect, state, digest, definition, position, revision FROM tools",
            values![],
        )
        .await?;
    let mut servers = HashMap::<ServerId, Vec<StoredTool>>::new();
    for row in &rows {
        let stored = tool(row)?;
        servers.entry(stored.tool.server).or_default().push(stored);
    }
    Ok(servers)
}

fn from_row(row: &Row) -> Result<Server, StoreError> {
    let definition: String = row.get(2)?;
    let definition: ServerDefinition = serde_json::from_str(&definition).map_err(StoreError::damaged)?;
    Ok(Server {
        id: row.parse(0)?,
        name: row.parse(1)?,
        definition,
        state: row.parse(3)?,
        revision: row.get(4)?,
        created_at: Timestamp::from_micros(row.get(5)?),
    })
}

fn tool(row: &Row) -> Result<StoredTool, StoreError> {
    let tool = Tool {
        server: row.parse(0)?,
        name: row.parse(1)?,
        effect: row.parse(2)?,
        state: row.parse(3)?,
        digest: row.parse(4)?,
        position: row.get(6)?,
        revision: row.get(7)?,
    };
    Ok(StoredTool { tool, definition: row.get(5)? })
}
