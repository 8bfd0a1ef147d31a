//! What the default profile grants a command: what its command line names, and the installation that it
//! belongs to.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use mcphub_domain::SandboxProfile;

use super::{Confinement, files};
use crate::settings::Settings;
use crate::target::ResolvedStdio;

/// What an installation below a common folder consists of; what else lies there may be somebody's data.
const PARTS: [&str; 7] = ["bin", "lib", "lib64", "libexec", "conf", "include", "pyvenv.cfg"];
/// The files that tell where a project begins.
const PROJECT: [&str; 4] = ["package.json", "pyproject.toml", "setup.py", "deno.json"];
/// Files that are programs, and load others that lie beside them.
const SCRIPTS: [&str; 9] = ["js", "mjs", "cjs", "ts", "mts", "py", "rb", "pl", "jar"];

/// How many links one path may lead over.
const MOST_LINKS: u32 = 40;

/// Is what a command is started from.
pub(crate) struct Ground<'a> {
    /// The program, as it was found.
    pub(crate) program: &'a Path,
    /// Its command line.
    pub(crate) target: &'a ResolvedStdio,
    /// Its home.
    pub(crate) home: &'a Path,
    /// Which folders are the hub's own, and whether namespaces are wanted.
    pub(crate) settings: &'a Settings,
}

/// Puts together what a child may touch, as paths without links. Fails if a grant doesn't exist, opens what is the
/// hub's own, or leads where the child itself could turn it elsewhere.
pub(crate) fn confinement(profile: &SandboxProfile, ground: &Ground<'_>) -> io::Result<Confinement> {
    let home = way(ground.home).end;
    let (mut read, write) = (granted(&profile.read)?, granted(&profile.write)?);
    let bounds = Bounds {
        private: ground.settings.private.iter().map(|path| way(path).end).collect(),
        changed: write.iter().map(|way| way.end.clone()).chain([home.clone()]).collect(),
    };
    files::common().try_for_each(|path| bounds.check(&way(&path)))?;
    read.iter().chain(&write).try_for_each(|way| bounds.check(way))?;
    let implied = ground.target.args.iter().flat_map(|arg| named(arg, &bounds));
    let implied = installation(ground.program, &bounds).into_iter().chain(implied);
    let implied = implied.filter_map(|path| bounds.follow(&path)).filter(|way| way.end.exists());
    read.extend(implied.filter(|way| bounds.opened_by(&way.end).is_none()));
    Ok(Confinement {
        home,
        read: ends(read),
        write: ends(write),
        hosts: profile.hosts.clone(),
        namespaces: ground.settings.namespaces,
        memory: u64::from(profile.memory_mb) << 20,
        processes: u64::from(profile.processes),
        cgroup: None,
    })
}

fn ends(ways: Vec<Way>) -> Vec<PathBuf> {
    let ends: BTreeSet<PathBuf> = ways.into_iter().map(|way| way.end).collect();
    ends.into_iter().collect()
}

/// Is what bounds every grant.
struct Bounds {
    /// The hub's own folders.
    private: Vec<PathBuf>,
    /// What the child may change.
    changed: Vec<PathBuf>,
}

impl Bounds {
    fn check(&self, way: &Way) -> io::Result<()> {
        if let Some(private) = self.opened_by(&way.end) {
            return Err(io::Error::other(format!(
                "its sandbox opens {}, where the hub's own data lie ({}): grant narrower folders",
                way.end.display(),
                private.display(),
            )));
        }
        if let Some(changed) = self.turns(way) {
            return Err(io::Error::other(format!(
                "its sandbox grants {} by way of {}, which it may change: grant the place that it leads to",
                way.start.display(),
                changed.display(),
            )));
        }
        Ok(())
    }

    /// Names the folder of the hub that a grant would open.
    fn opened_by(&self, path: &Path) -> Option<&PathBuf> {
        self.private.iter().find(|private| private.starts_with(path) || path.starts_with(private))
    }

    /// Names the folder that the child may change and that a way leads into and out of again: where it leads the
    /// next time is for the child to say.
    fn turns(&self, way: &Way) -> Option<&PathBuf> {
        let into = |folder: &PathBuf| way.places.iter().any(|place| place.starts_with(folder));
        self.changed.iter().find(|folder| into(folder) && !way.end.starts_with(folder))
    }

    /// Follows a path that a command line names. One that the child could turn elsewhere grants nothing.
    fn follow(&self, path: &Path) -> Option<Way> {
        Some(way(path)).filter(|way| self.turns(way).is_none())
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

/// Is where a path leads.
#[derive(Clone, Debug)]
struct Way {
    start: PathBuf,
    /// Every place that is looked at.
    places: Vec<PathBuf>,
    /// The path, and what each link at its end leads to.
    steps: Vec<PathBuf>,
    /// The path without links.
    end: PathBuf,
}

/// Follows an absolute path, link by link; one that leads nowhere ends where it stands.
fn way(path: &Path) -> Way {
    let mut links = 0..MOST_LINKS;
    let (mut places, mut steps, mut end) = (Vec::new(), Vec::new(), PathBuf::from("/"));
    let parts =
        |path: &Path| path.components().rev().map(|part| part.as_os_str().to_owned()).collect::<Vec<_>>();
    let mut rest = parts(path);
    while let Some(part) = rest.pop() {
        if part == ".." {
            end.pop();
            continue;
        }
        let place = end.join(&part);
        if rest.is_empty() {
            steps.push(place.clone());
        }
        match place.read_link() {
            Ok(target) if links.next().is_some() => rest.extend(parts(&target)),
            _ => end.clone_from(&place),
        }
        places.push(place);
    }
    Way { start: path.to_owned(), places, steps, end }
}

fn granted(paths: &BTreeSet<PathBuf>) -> io::Result<Vec<Way>> {
    let exists = |path: &PathBuf| {
        let missing = |error| io::Error::other(format!("its sandbox grants {}: {error}", path.display()));
        path.metadata().map_err(missing).map(|_| way(path))
    };
    paths.iter().map(exists).collect()
}

/// Finds what a program needs to run: itself, and the `bin`, `lib` … around it, at its path and where
/// links lead.
fn installation(program: &Path, bounds: &Bounds) -> Vec<PathBuf> {
    let Some(way) = bounds.follow(program) else { return Vec::new() };
    let mut found = Vec::new();
    for program in way.steps {
        let root = program.parent().filter(|folder| folder.ends_with("bin")).and_then(Path::parent);
        // A package's own `bin` lies within the package.
        let package = program.ancestors().skip(1).take(3).find(|folder| folder.join("package.json").exists());
        found.extend(package.filter(|folder| bounds.may_open(folder)).map(Path::to_owned));
        found.extend(root.into_iter().flat_map(|root| PARTS.map(|part| root.join(part))));
        found.push(program);
    }
    found
}

/// Lists what one word of a command line names: a file or folder, and for a script its project.
fn named(word: &str, bounds: &Bounds) -> Vec<PathBuf> {
    let path = word.split_once('=').map_or(word, |(_, value)| value);
    let path = if word.starts_with('/') { word } else { path };
    let path = Path::new(path);
    let found = path.is_absolute().then(|| bounds.follow(path)).flatten().filter(|way| way.end.exists());
    let Some(Way { end: path, .. }) = found else { return Vec::new() };
    if path.is_dir() {
        return if bounds.may_open(&path) { vec![path] } else { Vec::new() };
    }
    let is_script = path.extension().and_then(|end| end.to_str()).is_some_and(|end| SCRIPTS.contains(&end));
    let around = is_script.then(|| project(&path)).flatten().filter(|folder| bounds.may_open(folder));
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
    use crate::settings::Settings;
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
            let mut settings = Settings::new("".into(), Default::default(), "".into(), "".into());
            settings.private = vec![self.at("data")];
            let ground = Ground { program: &program, target: &target, home: &home, settings: &settings };
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
    fn a_package_is_granted_and_no_home_that_looks_like_one() {
        let disk = Disk::new(&[
            "package/package.json",
            "package/bin/tool",
            "person/package.json",
            "person/.ssh/id",
            "person/bin/tool",
        ]);
        assert_eq!(disk.read("{}", "package/bin/tool", &[]).unwrap()[0], "package");
        assert_eq!(disk.read("{}", "person/bin/tool", &[]).unwrap(), ["person/bin", "person/bin/tool"]);
    }

    #[test]
    fn a_link_grants_where_it_leads_unless_the_child_could_turn_it() {
        let disk =
            Disk::new(&["bin/tool", "out/x", "data/homes/1/x", "far/secret", "far/bin/tool", "far/lib/x"]);
        let link = |from: &str, to: &str| std::os::unix::fs::symlink(disk.at(to), disk.at(from)).unwrap();
        link("named", "far/secret");
        link("over", "out/named");
        for place in ["out/named", "data/homes/1/named", "out/tool"] {
            link(place, if place.ends_with("tool") { "far/bin/tool" } else { "far/secret" });
        }
        let writes = r#"{"write":["@out"]}"#;
        let read = |words: &[&str]| disk.read(writes, "bin/tool", words).unwrap();
        assert_eq!(read(&["@named"]), ["bin", "bin/tool", "far/secret"]);
        for word in ["@out/named", "--file=@over", "@data/homes/1/named", "@out/../out/named"] {
            assert_eq!(read(&[word]), ["bin", "bin/tool"], "{word}");
        }
        assert_eq!(read(&["@out/x"]), ["bin", "bin/tool", "out/x"]);
        assert_eq!(disk.read(writes, "out/tool", &[]).unwrap(), Vec::<String>::new());
        assert_eq!(disk.read("{}", "out/tool", &[]).unwrap(), ["far/bin", "far/bin/tool", "far/lib"]);
        for grant in [r#""write":["@out","@out/named"]"#, r#""write":["@out"],"read":["@over"]"#] {
            let error = disk.read(&format!("{{{grant}}}"), "bin/tool", &[]).unwrap_err();
            assert!(error.contains("which it may change"), "{error}");
        }
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
