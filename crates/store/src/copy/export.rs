//! Reading everything, page by page, all of it as it was at one moment.

use mcphub_domain::InstallId;
use mcphub_domain::audit::ChainHead;

use super::tables::{Kind, TABLES, Table};
use super::to_line;
use crate::audit::tips;
use crate::db::Db;
use crate::error::StoreError;
use crate::statement::{Row, Tx, Value, values};

/// Reads a copy; whatever is written meanwhile is not in it.
pub struct Export {
    tx: Tx,
    left: std::slice::Iter<'static, Table>,
    /// The table that is being read, and the key of the last row that was.
    at: Option<(&'static Table, Vec<Value>)>,
}

/// Says what a copy is of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Facts {
    /// The installation.
    pub install: InstallId,
    /// The ends of the log's chains.
    pub chains: Vec<ChainHead>,
}

/// Is a few rows of one table, each as a line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Page {
    /// The table.
    pub table: &'static str,
    /// The rows.
    pub rows: Vec<String>,
}

impl Export {
    pub(crate) async fn begin(db: &Db) -> Result<Self, StoreError> {
        Ok(Self { tx: db.read().await?, left: TABLES.iter(), at: None })
    }

    /// Says what it is a copy of.
    pub async fn facts(&mut self) -> Result<Facts, StoreError> {
        let row = self.tx.one("SELECT id FROM install", values![]).await?;
        let install = row.ok_or_else(|| StoreError::missing("the installation"))?.parse(0)?;
        Ok(Facts { install, chains: tips(&mut self.tx).await? })
    }

    /// Reads the next rows; none are left after the last table's.
    pub async fn page(&mut self) -> Result<Option<Page>, StoreError> {
        loop {
            let (table, after) = match self.at.take() {
                Some(at) => at,
                None => match self.left.next() {
                    Some(table) => (table, beginning(table)),
                    None => return Ok(None),
                },
            };
            let parameters = after.into_iter().chain([Value::from(table.page)]).collect();
            let rows = self.tx.all(table.select, parameters).await?;
            if let Some(last) = rows.last() {
                self.at = Some((table, key(table, last)?));
                let rows = rows.iter().map(|row| to_line(table, row)).collect::<Result<_, _>>()?;
                return Ok(Some(Page { table: table.name, rows }));
            }
        }
    }
}

fn key_kinds(table: &Table) -> impl Iterator<Item = Kind> {
    table.columns.iter().take(table.key).map(|(_, kind)| *kind)
}

/// Returns a key that is before every row's.
fn beginning(table: &Table) -> Vec<Value> {
    let least = |kind| match kind {
        Kind::Text => Value::from(""),
        Kind::Int => Value::from(i64::MIN),
        Kind::Bytes => Value::from(&[] as &[u8]),
    };
    key_kinds(table).map(least).collect()
}

fn key(table: &Table, row: &Row) -> Result<Vec<Value>, StoreError> {
    let value = |(place, kind)| {
        Ok(match kind {
            Kind::Text => Value::Text(row.get(place)?),
            Kind::Int => Value::Int(row.get(place)?),
            Kind::Bytes => Value::Bytes(row.get(place)?),
        })
    };
    key_kinds(table).enumerate().map(value).collect()
}
