//! What the default profile grants a command: what its command line names, and the installation that it
//! belongs to.

use std::io;
use std::path::{Path, PathBuf};

use mcphub_domain::SandboxProfile;

use super::{Confinement, files};
use crate::target::ResolvedStdio;

/// What an installation below a common folder consists of; what else lies there may be somebody's data.
const PARTS: [&str; 7] = ["bin", "lib", "lib64", "libexec", "conf", "include", "pyvenv.cfg"];
/// The files that tell where a project begins.
const PROJECT: [&str; 4] = ["package.json", "pyproject.toml", "setup.py", "deno.json"];
/// Files that are programs, and load others that lie beside them.
const SCRIPTS: [&str; 9] = ["js", "mjs", "cjs", "ts", "mts", "py", "rb", "pl", "jar"];

/// Is what a command is started from.
pub(crate) struct Ground<'a> {
    /// The program, as it was found.
    pub(crate) program: &'a Path,
    /// Its command line.
    pub(crate) target: &'a ResolvedStdio,
    /// Its home.
    pub(crate) home: &'a Path,
    /// Folders of the hub, which no child may see.
    pub(crate) private: &'a [PathBuf],
}

/// Puts together what a child may touch. Fails if a grant doesn't exist, or opens what is the hub's own.
pub(crate) fn confinement(profile: &SandboxProfile, ground: &Ground<'_>) -> io::Result<Confinement> {
    let private: Vec<PathBuf> = ground.private.iter().map(|path| real(path)).collect();
    let secret = Secret { private: &private };
    let mut implied = installation(ground.program);
    implied.extend(ground.target.args.iter().flat_map(|arg| named(arg, &secret)));
    let mut read = granted(profile.read.iter())?;
    let write = granted(profile.write.iter())?;
    for path in files::common().map(|path| real(&path)).chain(read.iter().chain(&write).cloned()) {
        if let Some(private) = secret.opened_by(&path) {
            return Err(io::Error::other(format!(
                "its sandbox opens {}, where the hub's own data lie ({}): grant narrower folders",
                path.display(),
                private.display(),
            )));
        }
    }
    read.extend(implied.into_iter().filter(|path| secret.opened_by(path).is_none()));
    Ok(Confinement {
        home: real(ground.home),
        read,
        write,
        hosts: profile.hosts.clone(),
        memory: u64::from(profile.memory_mb) << 20,
        processes: u64::from(profile.processes),
        cgroup: None,
    })
}

struct Secret<'a> {
    private: &'a [PathBuf],
}

impl Secret<'_> {
    /// Names the folder of the hub that a grant would open.
    fn opened_by(&self, path: &Path) -> Option<&PathBuf> {
        self.private.iter().find(|private| private.starts_with(path) || path.starts_with(private))
    }

    /// Says whether a folder may be granted as a whole because one file of it is named.
    fn may_open(&self, folder: &Path) -> bool {
        let common = ["/home", "/tmp", "/var/tmp", "/root", "/srv", "/var", "/etc", "/opt", "/mnt", "/media"];
        let is_home = folder.parent() == Some(Path::new("/home")) || folder.join(".ssh").exists();
        let is_common =
            folder.components().count() < 3 || common.iter().any(|path| folder == Path::new(path));
        !is_home && !is_common && self.opened_by(folder).is_none()
    }
}

/// Follows every link; a path that leads nowhere stays as it is.
fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

fn granted<'a>(paths: impl Iterator<Item = &'a PathBuf>) -> io::Result<Vec<PathBuf>> {
    paths
        .map(|path| {
            let missing = |error| io::Error::other(format!("its sandbox grants {}: {error}", path.display()));
            path.canonicalize().map_err(missing)
        })
        .collect()
}

/// Finds what a program needs to run: itself, and the `bin`, `lib` … around it, at its path and where
/// links lead.
fn installation(program: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for program in links(program) {
        let root = program.parent().filter(|folder| folder.ends_with("bin")).and_then(Path::parent);
        // A package's own `bin` lies within the package.
        let package = program.ancestors().skip(1).take(3).find(|folder| folder.join("package.json").exists());
        found.extend(package.map(Path::to_owned));
        if let Some(root) = root {
            found.extend(PARTS.map(|part| root.join(part)).into_iter().filter(|path| path.exists()));
        }
        found.push(program);
    }
    found
}

/// Lists a path and all that it leads to, link by link.
fn links(path: &Path) -> Vec<PathBuf> {
    const MOST: usize = 16;
    let mut all = vec![path.to_owned()];
    while let Some(last) = all.last().filter(|_| all.len() < MOST)
        && let Ok(next) = last.read_link()
    {
        let next = last.parent().unwrap_or_else(|| Path::new("/")).join(next);
        all.push(next);
    }
    all.push(real(path));
    all
}

/// Lists what one word of a command line names: a file or folder, and for a script its project.
fn named(word: &str, secret: &Secret<'_>) -> Vec<PathBuf> {
    let path = word.split_once('=').map_or(word, |(_, value)| value);
    let path = if word.starts_with('/') { word } else { path };
    let path = Path::new(path);
    let Some(path) = path.is_absolute().then(|| path.canonicalize().ok()).flatten() else {
        return Vec::new();
    };
    if path.is_dir() {
        return if secret.may_open(&path) { vec![path] } else { Vec::new() };
    }
    let is_script = path.extension().and_then(|end| end.to_str()).is_some_and(|end| SCRIPTS.contains(&end));
    let around = is_script.then(|| project(&path)).flatten().filter(|folder| secret.may_open(folder));
    [path].into_iter().chain(around).collect()
}

/// Finds the folder that a script loads others from: the outermost `node_modules`, the project, or its own.
fn project(script: &Path) -> Option<PathBuf> {
    let modules = script.ancestors().filter(|folder| folder.ends_with("node_modules")).last();
    let root =
        || script.ancestors().skip(1).find(|folder| PROJECT.iter().any(|file| folder.join(file).exists()));
    modules.or_else(root).or_else(|| script.parent()).map(Path::to_owned)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use mcphub_domain::SandboxProfile;

    use super::{Ground, confinement};
    use crate::target::ResolvedStdio;

    struct Disk(tempfile::TempDir);

    impl Disk {
        fn new(files: &[&str]) -> Self {
            let disk = Self(tempfile::tempdir().unwrap());
            for file in files {
                let path = disk.at(file);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, "").unwrap();
            }
            disk
        }

        fn at(&self, path: &str) -> PathBuf {
            self.0.path().canonicalize().unwrap().join(path)
        }

        fn read(&self, profile: &str, program: &str, args: &[&str]) -> Result<Vec<String>, String> {
            let profile: SandboxProfile =
                serde_json::from_str(&profile.replace('@', self.at("").to_str().unwrap())).unwrap();
            let args = args.iter().map(|arg| arg.replace('@', self.at("").to_str().unwrap())).collect();
            let target = ResolvedStdio { command: String::new(), args, env: Default::default() };
            let (home, program) = (self.at("data/homes/1"), self.at(program));
            fs::create_dir_all(&home).unwrap();
            let ground =
                Ground { program: &program, target: &target, home: &home, private: &[self.at("data")] };
            let made = confinement(&profile, &ground).map_err(|error| error.to_string())?;
            let mut read: Vec<String> = made.read.iter().map(|path| self.short(path)).collect();
            read.sort();
            read.dedup();
            Ok(read)
        }

        fn short(&self, path: &Path) -> String {
            path.strip_prefix(self.at("")).unwrap_or(path).to_str().unwrap().to_owned()
        }
    }

    #[test]
    fn a_program_has_its_installation_and_what_its_command_line_names() {
        let disk = Disk::new(&[
            "env/bin/python",
            "env/lib/python3/os.py",
            "env/share/secret",
            "app/pyproject.toml",
            "app/src/server.py",
            "app/notes.txt",
            "web/node_modules/a/dist/index.js",
            "web/node_modules/b/index.js",
            "web/.env",
            "docs/x/y",
            "data/hub.db",
            "loose/tool",
        ]);
        let python = |args: &[&str]| disk.read("{}", "env/bin/python", args).unwrap();
        assert_eq!(python(&[]), ["env/bin", "env/bin/python", "env/lib"]);
        assert_eq!(python(&["@app/src/server.py"])[..2], ["app", "app/src/server.py"]);
        assert_eq!(python(&["@app/notes.txt"])[0], "app/notes.txt");
        assert!(!python(&["@app/notes.txt"]).contains(&"app".to_owned()));
        let node = python(&["@web/node_modules/a/dist/index.js"]);
        assert_eq!(node[3..], ["web/node_modules", "web/node_modules/a/dist/index.js"]);
        assert_eq!(python(&["--root=@docs/x"])[0], "docs/x");
        assert_eq!(disk.read("{}", "loose/tool", &[]).unwrap(), ["loose/tool"]);
    }

    #[test]
    fn nothing_opens_what_is_the_hubs_own() {
        let disk = Disk::new(&["bin/tool", "data/hub.db", "data/homes/2/x", "server.py"]);
        assert_eq!(
            disk.read("{}", "bin/tool", &["@data", "@data/hub.db", "@"]).unwrap(),
            ["bin", "bin/tool"]
        );
        // The script lies beside the data: it alone is granted.
        assert!(disk.read("{}", "bin/tool", &["@server.py"]).unwrap().contains(&"server.py".to_owned()));
        for path in ["@", "@data", "@data/homes/2"] {
            let error = disk.read(&format!(r#"{{"read":["{path}"]}}"#), "bin/tool", &[]).unwrap_err();
            assert!(error.contains("grant narrower folders"), "{error}");
        }
        let error = disk.read(r#"{"write":["@none"]}"#, "bin/tool", &[]).unwrap_err();
        assert!(error.contains("its sandbox grants"), "{error}");
    }
}
