//! The database as its owner sees it: a session in another process, past the hub and its rules.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use url::Url;

use super::{Installation, tool};

pub(crate) mod standby;

/// Is a session with an installation's database; ended with the test.
pub(crate) struct Session {
    child: Child,
    statements: ChildStdin,
    answers: BufReader<ChildStdout>,
    is_postgres: bool,
}

/// Runs the statements that come as lines, and answers each with its rows and a last line.
const SQLITE: &str = "import sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
for line in sys.stdin:
    for row in database.execute(line):
        print(*row)
    print('done', flush=True)";

impl Session {
    pub(crate) fn of(installation: &Installation) -> Self {
        let url = installation.variable("MCPHUB_DATABASE__URL");
        let mut command = url.map_or_else(|| sqlite(installation), postgres);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        Self {
            statements: child.stdin.take().unwrap(),
            answers: BufReader::new(child.stdout.take().unwrap()),
            is_postgres: url.is_some(),
            child,
        }
    }

    /// Runs a statement, waits until it is done, and returns its rows.
    pub(crate) fn run(&mut self, statement: &str) -> Vec<String> {
        let ask = if self.is_postgres { ";\n\\echo done\n" } else { "\n" };
        self.statements.write_all(format!("{statement}{ask}").as_bytes()).unwrap();
        let lines = self.answers.by_ref().lines().map(Result::unwrap);
        let mut is_done = false;
        let rows = lines.take_while(|line| {
            is_done = line == "done";
            !is_done
        });
        let rows = rows.collect();
        assert!(is_done, "{statement}");
        rows
    }

    /// Keeps everybody from writing the log, until `release`.
    pub(crate) fn hold_log(&mut self) {
        if self.is_postgres {
            self.run("BEGIN");
            self.run("LOCK TABLE audit_segments IN ACCESS EXCLUSIVE MODE");
        } else {
            self.run("BEGIN IMMEDIATE");
        }
    }

    pub(crate) fn release(&mut self) {
        self.run("ROLLBACK");
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.child.kill().expect("the session can be ended");
        self.child.wait().expect("the session has ended");
    }
}

fn sqlite(installation: &Installation) -> Command {
    let mut command = Command::new(tool("MCPHUB_TEST_PYTHON_2"));
    command.args(["-c", SQLITE]).arg(installation.data_dir().join("mcphub.db"));
    command
}

/// Connects to the database of an address as the test server's superuser.
fn postgres(url: &str) -> Command {
    let mut admin = Url::parse(&tool("MCPHUB_TEST_POSTGRES_URL")).unwrap();
    admin.set_path(Url::parse(url).unwrap().path());
    let mut command = Command::new(Path::new(&tool("MCPHUB_TEST_POSTGRES_BIN")).join("psql"));
    command
        .args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set", "ON_ERROR_STOP=1"])
        .arg(admin.as_str());
    command
}
