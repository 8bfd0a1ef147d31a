//! What a command prints: a sentence or an aligned table for people, JSON for programs.

use std::io::Write;
use std::process::ExitCode;

use serde_json::Value;

use super::failure::FAILED;

/// Is what a command answers.
pub(crate) struct Answer {
    text: String,
    json: Value,
    note: Option<String>,
    exit: u8,
}

impl Answer {
    /// Answers with a text for people and the same thing for programs.
    pub(crate) fn new(text: impl Into<String>, json: Value) -> Self {
        Self { text: text.into(), json, note: None, exit: 0 }
    }

    /// Answers with nothing more than the exit code.
    pub(crate) const fn silent() -> Self {
        Self { text: String::new(), json: Value::Null, note: None, exit: 0 }
    }

    /// Answers with a list.
    pub(crate) fn table(table: &Table, json: Vec<Value>) -> Self {
        Self::new(table.to_string(), Value::Array(json))
    }

    /// Adds what only people need to know; it goes to standard error.
    pub(crate) fn with_note(self, note: impl Into<String>) -> Self {
        Self { note: Some(note.into()), ..self }
    }

    /// Answers that something is wrong.
    pub(crate) fn failed(self) -> Self {
        Self { exit: FAILED, ..self }
    }

    /// Prints it and names the exit code. A reader that went away needs no more.
    pub(crate) fn print(&self, json: bool) -> ExitCode {
        let text = match (&self.json, json) {
            (Value::Null, true) => String::new(),
            (value, true) => value.to_string(),
            (_, false) => self.text.clone(),
        };
        let mut out = std::io::stdout().lock();
        if !text.is_empty() && writeln!(out, "{text}").and_then(|()| out.flush()).is_err() {
            return ExitCode::from(FAILED);
        }
        if let Some(note) = self.note.as_ref().filter(|_| !json) {
            eprintln!("{note}");
        }
        ExitCode::from(self.exit)
    }
}

/// Is a list for people, its columns aligned.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
    empty: &'static str,
}

impl Table {
    /// Starts a table with its columns' names; `empty` is said instead of a table without rows.
    pub(crate) fn new(columns: &[&str], empty: &'static str) -> Self {
        Self { rows: vec![columns.iter().map(|name| (*name).to_owned()).collect()], empty }
    }

    /// Adds a row. What would move the cursor of a terminal is replaced.
    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.iter().map(|cell| printable(cell)).collect());
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.rows.len() == 1 {
            return f.write_str(self.empty);
        }
        let columns = self.rows.first().map_or(0, Vec::len);
        let widths: Vec<usize> = (0..columns)
            .map(|at| self.rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count()).max())
            .map(|widest| widest.unwrap_or(0))
            .collect();
        let line = |row: &Vec<String>| {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        f.write_str(&self.rows.iter().map(line).collect::<Vec<_>>().join("\n"))
    }
}

/// Replaces what would move the cursor of a terminal, in a text that comes from elsewhere.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// Shows what may be missing.
pub(crate) fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// Puts words behind each other, or a dash where there is none.
pub(crate) fn list_or_dash<T: ToString>(values: impl IntoIterator<Item = T>) -> String {
    let words: Vec<String> = values.into_iter().map(|value| value.to_string()).collect();
    if words.is_empty() { "-".to_owned() } else { words.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::Table;

    #[test]
    fn columns_are_aligned_and_end_without_blanks() {
        let mut table = Table::new(&["NAME", "ROLE", "EMAIL"], "nobody");
        assert_eq!(table.to_string(), "nobody");
        table.row(["é".to_owned(), "manager".to_owned(), String::new()]);
        table.row(["alice".to_owned(), "user".to_owned(), "a@b".to_owned()]);
        assert_eq!(table.to_string(), "NAME   ROLE     EMAIL\né      manager\nalice  user     a@b");
    }

    #[test]
    fn a_cell_cannot_move_the_cursor() {
        let mut table = Table::new(&["X"], "none");
        table.row(["a\u{1b}[2Jb\n".to_owned()]);
        assert_eq!(table.to_string(), "X\na\u{fffd}[2Jb\u{fffd}");
    }
}
