//! The project's own programs, run as a user runs them.

use std::ffi::OsStr;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};
use std::{env, fs, thread};

/// Longer than any command of a test takes, on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a command did.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: i32,
    pub(crate) output: Vec<u8>,
    pub(crate) errors: String,
}

impl Outcome {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.output).expect("the output is text")
    }

    /// Checks the exit code.
    #[track_caller]
    pub(crate) fn ends_with(self, code: i32) -> Outcome {
        assert_eq!(
            self.code,
            code,
            "{}{}",
            String::from_utf8_lossy(&self.output),
            self.errors
        );
        self
    }

    /// Checks that each of these is in what it wrote to standard error.
    #[track_caller]
    pub(crate) fn says(self, parts: &[&str]) -> Outcome {
        for part in parts {
            assert!(self.errors.contains(part), "`{part}` is not in:\n{}", self.errors);
        }
        self
    }

    /// Checks that each of these is in what it wrote to standard output.
    #[track_caller]
    pub(crate) fn shows(self, parts: &[&str]) -> Outcome {
        for part in parts {
            assert!(self.text().contains(part), "`{part}` is not in:\n{}", self.text());
        }
        self
    }
}

/// Runs a command, and ends it when it hangs.
#[track_caller]
pub(crate) fn outcome(command: &mut Command) -> Outcome {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let output = read_aside(child.stdout.take());
    let errors = read_aside(child.stderr.take());
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if start.elapsed() > PATIENCE {
            let _ = child.kill();
            panic!("{command:?} hangs");
        }
        thread::sleep(Duration::from_millis(2));
    };
    Outcome {
        code: status
            .code()
            .unwrap_or_else(|| panic!("{command:?} ended with {status}")),
        output: output.join().unwrap(),
        errors: String::from_utf8(errors.join().unwrap()).expect("messages are text"),
    }
}

/// A program that runs beside a test, and ends with it, however that ends.
pub(crate) struct Background(pub(crate) Child);

impl Background {
    /// Starts a program that is not this project's. `None` where there is none, which is said.
    pub(crate) fn start(command: &mut Command) -> Option<Background> {
        match command.spawn() {
            Ok(child) => Some(Background(child)),
            Err(error) => {
                let name = command.get_program().display();
                eprintln!("SKIPPED: this test needs {name}, and {error}");
                None
            }
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn read_aside(stream: Option<impl Read + Send + 'static>) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut stream) = stream {
            stream.read_to_end(&mut bytes).unwrap();
        }
        bytes
    })
}

/// Runs the `refcap` command.
#[track_caller]
pub(crate) fn refcap<A>(arguments: impl IntoIterator<Item = A>) -> Outcome
where
    A: AsRef<OsStr>,
{
    outcome(refcap_command().args(arguments))
}

/// The `refcap` command, without input.
#[track_caller]
pub(crate) fn refcap_command() -> Command {
    let mut command = Command::new(built("refcap"));
    command.stdin(Stdio::null());
    command
}

/// A program of this project, where cargo puts it: beside the folder of the tests.
#[track_caller]
pub(crate) fn built(name: &str) -> PathBuf {
    let tests = env::current_exe().expect("a test knows where it is");
    let folder = tests
        .ancestors()
        .nth(2)
        .expect("tests are in target/PROFILE/deps");
    let path = folder.join(format!("{name}{}", env::consts::EXE_SUFFIX));
    // `cargo test` builds a program only for the tests of its own package, so that the one that is there
    // may be of yesterday.
    let how = "run `cargo xtask test`, or first `cargo build --workspace --bins --examples`";
    let Ok(time) = modified(&path) else {
        panic!("{} is missing: {how}", path.display());
    };
    let sources = fs::read_to_string(path.with_extension("d")).unwrap_or_default();
    let sources = sources.split_once(": ").map_or("", |(_, sources)| sources);
    for source in sources.split_whitespace().map(Path::new) {
        if modified(source).is_ok_and(|changed| changed > time) {
            panic!("{} is older than {}: {how}", path.display(), source.display());
        }
    }
    path
}

fn modified(path: &Path) -> std::io::Result<SystemTime> {
    fs::metadata(path)?.modified()
}

/// A guest as `cargo xtask guests` built it.
#[track_caller]
pub(crate) fn guest(profile: &str, name: &str) -> PathBuf {
    let path = root().join(format!("target/guests/{profile}/{name}.wasm"));
    assert!(
        path.is_file(),
        "{} is missing: run `cargo xtask test`, which builds the guests",
        path.display()
    );
    path
}

/// The root of the project.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the tests are in the project")
}

/// A folder for the files of one test, empty at first and gone at the end.
pub(crate) struct Scratch {
    folder: PathBuf,
}

impl Scratch {
    /// `test` is the test's name, so that each has its own.
    pub(crate) fn new(test: &str) -> Scratch {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{test}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        Scratch { folder }
    }

    pub(crate) fn path(&self, name: &str) -> String {
        let path = self.folder.join(name);
        path.into_os_string()
            .into_string()
            .expect("the project's path is text")
    }

    /// Writes a file and returns its path.
    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}
