//! The examples do what they say, as release and as debug builds.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, OnceLock};

use refcap::{Captured, Exit, Limits, Output, Program};

use crate::support::commands::{self, Background, Outcome, Scratch, built, guest, refcap};
use crate::support::servers::{self, Silent};
use crate::support::{SOON, engine, net, program, soon};

const PROFILES: [&str; 2] = ["release", "debug"];

/// A web server for the files in a folder, with which nothing here has anything in common.
struct WebServer {
    _process: Background,
    address: SocketAddr,
}

impl WebServer {
    /// `None` where there is no Python, which is said.
    fn start(folder: &str) -> Option<WebServer> {
        let mut process = Background::start(
            Command::new("python3")
                .args(["-u", "-m", "http.server", "0", "--bind", "127.0.0.1"])
                .args(["--directory", folder])
                .stdout(Stdio::piped())
                .stderr(Stdio::null()),
        )?;
        // "Serving HTTP on 127.0.0.1 port 36127 (http://127.0.0.1:36127/) ..."
        let mut line = String::new();
        let mut lines = BufReader::new(process.0.stdout.take().unwrap());
        lines.read_line(&mut line).unwrap();
        let mut words = line.split(' ').skip_while(|word| *word != "port").skip(1);
        let port = words.next().and_then(|port| port.parse().ok());
        let port: u16 = port.unwrap_or_else(|| panic!("the web server says {line:?}"));
        Some(WebServer {
            _process: process,
            address: SocketAddr::from(([127, 0, 0, 1], port)),
        })
    }
}

/// Runs the fetch example with the command.
fn fetch(profile: &str, rules: &str, url: &str) -> Outcome {
    let guest = guest(profile, "fetch");
    let grant = format!("net={rules}");
    refcap([
        "run".as_ref(),
        guest.as_os_str(),
        "--grant".as_ref(),
        grant.as_ref(),
        "--".as_ref(),
        url.as_ref(),
    ])
}

/// A MiB that is different each time, and does not compress.
fn random_page() -> Vec<u8> {
    use std::hash::{BuildHasher, Hasher, RandomState};
    let words = (0..1 << 17).map(|_| RandomState::new().build_hasher().finish());
    words.flat_map(u64::to_le_bytes).collect()
}

#[test]
fn fetch_gets_a_large_page_byte_for_byte() {
    let scratch = Scratch::new("fetch_large");
    let page = random_page();
    assert_eq!(page.len(), 1 << 20);
    scratch.file("page.bin", &page);
    let Some(server) = WebServer::start(&scratch.path("")) else {
        return;
    };
    let rules = format!("connect tcp {}", server.address);
    for profile in PROFILES {
        let fetched = fetch(profile, &rules, &format!("http://{}/page.bin", server.address)).ends_with(0);
        assert_eq!(fetched.errors, "");
        assert!(
            fetched.output == page,
            "{profile}: {} bytes, other ones",
            fetched.output.len()
        );
    }
}

#[test]
fn fetch_says_when_there_is_no_such_page() {
    let scratch = Scratch::new("fetch_404");
    let Some(server) = WebServer::start(&scratch.path("")) else {
        return;
    };
    let rules = format!("connect tcp {}", server.address);
    for profile in PROFILES {
        let fetched = fetch(profile, &rules, &format!("http://{}/nothing", server.address));
        let fetched = fetched
            .ends_with(1)
            .says(&["the server answered 404", &server.address.to_string()]);
        assert_eq!(fetched.output, b"");
    }
}

#[tokio::test]
async fn fetch_says_why_an_address_is_out_of_reach() {
    let server = Silent::start().await;
    let url = format!("http://{}/", server.address);
    for profile in PROFILES {
        let program = load(profile, "fetch");
        for (rules, why) in [
            ("", "asks for more than is allowed"),
            ("connect tcp 127.0.0.1:1", "is not in 1"),
            ("connect tcp 10.0.0.0/8:*", "127.0.0.1 is not in 10.0.0.0/8"),
            ("connect tcp *:*; except loopback", "127.0.0.1"),
            ("connect udp 127.0.0.1:*", "protocol tcp is not in udp"),
            ("listen tcp 127.0.0.1:*", "operation connect is not in listen"),
        ] {
            let (exit, output, errors) = soon(run(&program, rules, &[&url])).await;
            assert_eq!((exit.code, output.as_str()), (1, ""), "{rules}");
            assert!(errors.contains(why), "{rules}: {errors}");
        }
    }
    assert_eq!(server.visits(), 0);
}

#[test]
fn fetch_says_what_is_wrong_with_its_arguments() {
    for (url, why) in [
        ("https://127.0.0.1/", "only http:// URLs are supported"),
        ("http://example.com/", "is not an IP address"),
        ("http://127.0.0.1:1/a b", "must be percent-encoded"),
    ] {
        fetch("release", "connect tcp 127.0.0.1:1", url)
            .ends_with(1)
            .says(&[why]);
    }
    let guest = guest("release", "fetch");
    refcap([
        "run".as_ref(),
        guest.as_os_str(),
        "--grant".as_ref(),
        "net=".as_ref(),
    ])
    .ends_with(1)
    .says(&["usage: fetch http://ADDRESS"]);
}

/// Runs a guest through the embedding API, as its own program would be called with these arguments.
async fn run(program: &Program, rules: &str, arguments: &[&str]) -> (Exit, String, String) {
    let grant = net(rules);
    let (output, errors) = (Captured::new(1 << 20), Captured::new(1 << 20));
    let vat = program
        .vat()
        .grant("net", &grant)
        .args(["guest"].iter().chain(arguments).copied())
        .limits(Limits::default().wall_time(SOON))
        .stdout(Output::Capture(output.clone()))
        .stderr(Output::Capture(errors.clone()));
    let mut vat = vat.start().await.unwrap();
    let exit = vat.run().await.unwrap();
    assert_eq!(vat.handle().sockets(), 0, "a connection outlives what used it");
    (exit, output.text(), errors.text())
}

fn load(profile: &str, name: &str) -> Program {
    let bytes = fs::read(guest(profile, name)).unwrap();
    Program::load(engine(), &bytes).unwrap_or_else(|error| panic!("{profile}/{name}: {error}"))
}

#[tokio::test]
async fn hand_over_lends_a_part_and_takes_it_back() {
    let mut server = Silent::start().await;
    let address = server.address.to_string();
    for (profile, visits) in PROFILES.into_iter().zip([2, 4]) {
        let program = load(profile, "hand-over");
        let (exit, output, errors) = soon(run(&program, "connect tcp 127.0.0.1:*", &[&address])).await;
        assert_eq!((exit.code, errors.as_str()), (0, ""), "{profile}: {output}");
        let lines = [
            "main: I hold `connect tcp 127.0.0.1:*`".to_owned(),
            format!("main: I lend the plugin `connect tcp {address}`"),
            format!("plugin: connected to {address}"),
            format!("plugin: only everything: `connect tcp {address}`"),
            "main: I revoked what I lent; 2 capabilities ended".to_owned(),
            "plugin: reading from my connection: ".to_owned(),
            format!("plugin: another connection to {address}: "),
            format!("main: I can still reach {address} myself"),
        ];
        in_order(&output, &lines);
        for elsewhere in ["127.0.0.1:1", "10.0.0.1:80", "169.254.169.254:80"] {
            assert!(
                output.contains(&format!("no rule allows connect tcp {elsewhere}")),
                "{output}"
            );
        }
        // The plugin's connection, and that of main.
        server.next().await;
        server.next().await;
        assert_eq!(server.visits(), visits);
    }
}

// The library's home, in whichever way it gets there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_library_that_was_taken_over_reaches_out_from_inside_a_module_and_not_from_beside_it() {
    let home = tokio::net::TcpListener::bind("127.66.66.66:6666").await.unwrap();
    for profile in PROFILES {
        let converter = load(profile, "converter");
        let bytes = fs::read(guest(profile, "supply-chain-apart")).unwrap();
        let apart = Program::load_linked(engine(), &bytes, &[("converter", &converter)]).unwrap();
        let together = load(profile, "supply-chain-together");
        for (program, is_reached) in [(together, true), (apart, false)] {
            let rates = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let service = rates.local_addr().unwrap().to_string();
            let serve = tokio::spawn(async move {
                let (mut peer, _) = rates.accept().await.unwrap();
                tokio::io::AsyncWriteExt::write_all(&mut peer, b"920\n")
                    .await
                    .unwrap();
            });
            let (exit, output, errors) = soon(run(&program, "connect tcp 127.0.0.0/8:*", &[&service])).await;
            serve.await.unwrap();
            assert_eq!(
                (exit.code, output.as_str()),
                (0, "1000 cents are 920\n"),
                "{profile}: {errors}"
            );
            // The program has ended, so whoever was to come has come.
            let visit = tokio::time::timeout(std::time::Duration::from_millis(100), home.accept()).await;
            assert_eq!(visit.is_ok(), is_reached, "{profile}");
            if let Ok(Ok((mut peer, _))) = visit {
                let mut text = String::new();
                tokio::io::AsyncReadExt::read_to_string(&mut peer, &mut text)
                    .await
                    .unwrap();
                assert_eq!(text, "somebody has 1000 cents\n");
            }
        }
    }
}

/// Checks that lines begin so, one after the other, with any lines between them.
#[track_caller]
fn in_order(text: &str, beginnings: &[impl AsRef<str>]) {
    let mut lines = text.lines();
    for beginning in beginnings {
        let beginning = beginning.as_ref();
        assert!(
            lines.any(|line| line.starts_with(beginning)),
            "no line begins with `{beginning}`, or not in this order:\n{text}"
        );
    }
}

/// The example without the SDK, for a server at another port than 7.
fn locals(port: u16) -> String {
    static SOURCE: OnceLock<String> = OnceLock::new();
    let source =
        SOURCE.get_or_init(|| fs::read_to_string(commands::root().join("examples/wat/locals.wat")).unwrap());
    let [high, low] = port.to_be_bytes();
    // The address, both ends of the range of ports in the rule, and the comment that says so.
    assert_eq!(source.matches(r#""\00\07""#).count(), 4);
    source.replace(r#""\00\07""#, &format!(r#""\{high:02x}\{low:02x}""#))
}

#[tokio::test]
async fn a_guest_whose_references_are_locals_talks_to_a_server() {
    let server = servers::echo().await;
    let guest = program(&locals(server.port()));
    let (exit, ..) = soon(run(&guest, "connect tcp 127.0.0.1:*", &[])).await;
    assert_eq!(exit.code, 0);
    // It says in which step it failed: the derived network has nothing in it, or nobody is there.
    let (exit, ..) = soon(run(&guest, "connect tcp 127.0.0.1:1", &[])).await;
    assert_eq!(exit.code, 2);
    let nobody = servers::nobody();
    let guest = program(&locals(nobody.port()));
    let (exit, ..) = soon(run(&guest, "connect tcp 127.0.0.1:*", &[])).await;
    assert_eq!(exit.code, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_runs_an_example_in_text_form() {
    let server = servers::echo().await;
    let scratch = Scratch::new("locals");
    let module = scratch.file("locals.wat", locals(server.port()));
    let outcome = refcap(["run", &module, "--grant", "net=connect tcp 127.0.0.1:*"]).ends_with(0);
    assert_eq!((outcome.text(), outcome.errors.as_str()), ("", ""));
    refcap(["run", &module, "--grant", "net="]).ends_with(2);
}

/// Runs the host side of the demo.
fn demo(guest: &Path) -> Outcome {
    let host = built("examples/demo");
    commands::outcome(Command::new(host).arg(guest))
}

#[test]
fn the_demo_shows_each_step_in_order() {
    for profile in PROFILES {
        let shown = demo(&guest(profile, "demo")).ends_with(0);
        in_order(
            shown.text(),
            &["granted ", "derived ", "allowed ", "refused ", "revoked "],
        );
        let shown = shown.shows(&[
            "says \"hello from the server\"",
            "refused   no rule allows connect tcp 127.0.0.1:",
            "in the middle of a read from 127.0.0.1:",
            "by the host: ",
            "the server that nobody may reach was reached 0 times",
            "it ended with 0",
        ]);
        assert_eq!(shown.errors, "");
    }
}

#[test]
fn the_demo_says_what_it_needs() {
    commands::outcome(&mut Command::new(built("examples/demo")))
        .ends_with(1)
        .says(&["cargo xtask demo"]);
    demo(Path::new("no/such/guest.wasm"))
        .ends_with(1)
        .says(&["cannot read the guest no/such/guest.wasm"]);
}

/// The HTTP server example, run by the command.
struct Served {
    process: Background,
    address: SocketAddr,
}

impl Served {
    fn start(profile: &str, grant: &str, requests: u32) -> Served {
        let module = guest(profile, "http-server");
        let mut child = Command::new(built("refcap"))
            .arg("run")
            .arg(&module)
            .args(["--grant", &format!("net={grant}"), "--"])
            .args(["127.0.0.1:0", &requests.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let address = line.trim_end().strip_prefix("listening on ");
        let address = address.unwrap_or_else(|| panic!("the server says {line:?}"));
        Served {
            process: Background(child),
            address: address.parse().unwrap(),
        }
    }

    /// The exit code, once it has answered as often as it was told.
    fn end(mut self) -> Option<i32> {
        let begun = std::time::Instant::now();
        while begun.elapsed() < SOON {
            if let Some(status) = self.process.0.try_wait().unwrap() {
                return status.code();
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        None
    }
}

// A real client, 50 connections at a time, against a guest that has a network to be reached by and none to
// reach.
#[test]
fn curl_gets_a_thousand_answers_from_the_http_server() {
    if Command::new("curl").arg("--version").output().is_err() {
        eprintln!("SKIPPED: this test needs curl");
        return;
    }
    for profile in PROFILES {
        let grant =
            "bind,listen,accept tcp 127.0.0.1:0; accept tcp 127.0.0.1:* from 127.0.0.1; limit sockets 60";
        let server = Served::start(profile, grant, 1_000);
        let curl = Command::new("curl")
            .args([
                "--silent",
                "--show-error",
                "--fail",
                "--parallel",
                "--parallel-max",
                "50",
            ])
            .arg(format!("http://{}/hello/[1-1000]", server.address))
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&curl.stderr);
        assert!(curl.status.success(), "{profile}: {errors}");
        let text = String::from_utf8(curl.stdout).unwrap();
        let mut answers: Vec<_> = text.lines().collect();
        answers.sort_unstable();
        let mut expected: Vec<_> = (1..=1_000).map(|number| format!("hello, {number}")).collect();
        expected.sort_unstable();
        assert_eq!(answers, expected, "{profile}");
        assert_eq!(server.end(), Some(0), "{profile}");
    }
}

/// Starts an example that listens, in this process, and says where.
async fn start_listening(
    profile: &str,
    name: &str,
    grants: &[(&str, &refcap::Capability)],
    args: &[&str],
) -> (tokio::task::JoinHandle<()>, SocketAddr) {
    let output = Captured::new(1 << 16);
    let mut vat = load(profile, name).vat().stdout(Output::Capture(output.clone()));
    vat = vat.args(std::iter::once(name).chain(args.iter().copied()));
    for (endowment, net) in grants {
        vat = vat.grant(endowment, net);
    }
    let mut vat = vat.start().await.unwrap();
    let running = tokio::spawn(async move {
        // It ends with an error when its network is taken back.
        let _ = vat.run().await;
    });
    let address = soon(async {
        loop {
            let text = output.text();
            if let Some(line) = text.lines().next().filter(|_| text.ends_with('\n')) {
                return line.strip_prefix("listening on ").unwrap().parse().unwrap();
            }
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    })
    .await;
    (running, address)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_echo_server_serves_many_and_ends_when_its_network_does() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    for profile in PROFILES {
        let grant = net("bind,listen tcp 127.0.0.1:0; accept tcp 127.0.0.1:*");
        let (running, address) = start_listening(profile, "echo", &[("net", &grant)], &["127.0.0.1:0"]).await;
        let mut clients = Vec::new();
        for _ in 0..100 {
            clients.push(tokio::net::TcpStream::connect(address).await.unwrap());
        }
        for (client, number) in clients.iter_mut().zip(0..100_u8).rev() {
            client.write_all(&[number; 5_000]).await.unwrap();
        }
        for (client, number) in clients.iter_mut().zip(0_u8..) {
            let mut answer = vec![0; 5_000];
            soon(client.read_exact(&mut answer)).await.unwrap();
            assert!(answer.iter().all(|&byte| byte == number));
        }
        grant.revoke();
        soon(running).await.unwrap();
        for client in &mut clients {
            servers::closed(client).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_forwarder_joins_two_networks_and_has_no_third() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let target = servers::echo().await;
    for profile in PROFILES {
        let inside = net("bind,listen tcp 127.0.0.1:0; accept tcp 127.0.0.1:*");
        let outside = net(&format!("connect tcp {target}"));
        let grants = [("inside", &inside), ("outside", &outside)];
        let args = ["127.0.0.1:0", &target.to_string()];
        let (running, address) = start_listening(profile, "forward", &grants, &args).await;
        let mut client = tokio::net::TcpStream::connect(address).await.unwrap();
        client.write_all(&[7; 100_000]).await.unwrap();
        client.shutdown().await.unwrap();
        let mut answer = Vec::new();
        soon(client.read_to_end(&mut answer)).await.unwrap();
        assert_eq!(
            (answer.len(), answer.iter().all(|&byte| byte == 7)),
            (100_000, true)
        );
        // Without a way out, a client is turned away and the others are not.
        outside.revoke();
        let mut client = tokio::net::TcpStream::connect(address).await.unwrap();
        servers::closed(&mut client).await;
        inside.revoke();
        soon(running).await.unwrap();
    }
}

// Each side sends more than all buffers on the way hold, and reads nothing until nothing goes any more: both
// directions fill up, wait for room, and go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_forwarder_loses_nothing_when_both_sides_are_slow() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    const LENGTH: usize = 24 << 20;
    /// Sends all, reads to the end, and says whether it got what it should.
    async fn side(
        stream: tokio::net::TcpStream,
        sent: Vec<u8>,
        expected: Vec<u8>,
        both: Arc<tokio::sync::Barrier>,
    ) -> bool {
        let (mut from, mut to) = stream.into_split();
        let sending = tokio::spawn(async move {
            to.write_all(&sent).await.unwrap();
            to.shutdown().await.unwrap();
        });
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        assert!(!sending.is_finished(), "there is room for all of it");
        // On a busy machine one side would read while the other one still looks.
        both.wait().await;
        let mut got = Vec::new();
        from.read_to_end(&mut got).await.unwrap();
        sending.await.unwrap();
        got == expected
    }
    let pattern = |step: usize| -> Vec<u8> { (0..LENGTH).map(|n| (n * step % 251) as u8).collect() };
    let mut server = Silent::start().await;
    let target = server.address.to_string();
    let inside = net("bind,listen tcp 127.0.0.1:0; accept tcp 127.0.0.1:*");
    let outside = net(&format!("connect tcp {target}"));
    let grants = [("inside", &inside), ("outside", &outside)];
    let args = ["127.0.0.1:0", &target];
    let (running, address) = start_listening("release", "forward", &grants, &args).await;
    let client = tokio::net::TcpStream::connect(address).await.unwrap();
    let (far, _) = server.next().await;
    let (question, answer) = (pattern(1), pattern(7));
    let both = Arc::new(tokio::sync::Barrier::new(2));
    let far = tokio::spawn(side(far, answer.clone(), question.clone(), both.clone()));
    assert!(soon(side(client, question, answer, both)).await);
    assert!(soon(far).await.unwrap());
    inside.revoke();
    soon(running).await.unwrap();
}

/// A program that was started takes a moment until it listens.
fn until_it_serves(address: SocketAddr) {
    let begun = std::time::Instant::now();
    while std::net::TcpStream::connect(address).is_err() {
        assert!(begun.elapsed() < SOON, "nobody listens on {address}");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

// A resolver that nobody here wrote.
#[test]
fn the_dns_client_is_answered_by_dnsmasq() {
    let address = servers::nobody();
    let server = Background::start(
        Command::new("dnsmasq")
            .args(["--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv"])
            .args(["--no-hosts", "--pid-file=", "--user=root"])
            .args(["--listen-address=127.0.0.1", "--bind-interfaces"])
            .arg(format!("--port={}", address.port()))
            .arg("--host-record=api.example.test,192.0.2.7,2001:db8::7")
            .arg("--local=/example.test/")
            .stderr(Stdio::null()),
    );
    let Some(_server) = server else { return };
    until_it_serves(address);
    let address = address.to_string();
    let grant = format!("net=bind udp *:0; send udp {address}; receive udp *:* from {address}");
    let module = guest("release", "dns-client");
    let ask = |name: &str, kind: &str| {
        let module = module.to_str().unwrap();
        refcap(["run", module, "--grant", &grant, "--", &address, name, kind])
    };
    ask("api.example.test", "A").ends_with(0).shows(&["192.0.2.7\n"]);
    ask("api.example.test", "AAAA")
        .ends_with(0)
        .shows(&["2001:db8::7\n"]);
    ask("other.example.test", "A")
        .ends_with(1)
        .says(&["there is no other.example.test"]);
}

// A guest client against a server that half of the world runs.
#[test]
fn fetch_gets_a_page_from_nginx() {
    let scratch = Scratch::new("fetch_nginx");
    let page: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    scratch.file("page.bin", &page);
    let address = servers::nobody();
    let folder = scratch.path("");
    let config = format!(
        "daemon off; master_process off; pid {folder}nginx.pid; error_log stderr crit; events {{}} \
         http {{ access_log off; client_body_temp_path {folder}a; proxy_temp_path {folder}b; \
         fastcgi_temp_path {folder}c; uwsgi_temp_path {folder}d; scgi_temp_path {folder}e; \
         server {{ listen {address}; root {folder}; }} }}"
    );
    let config = scratch.file("nginx.conf", config);
    let server = Background::start(
        Command::new("nginx")
            .args(["-p", &folder, "-c", &config])
            .stderr(Stdio::null()),
    );
    let Some(_server) = server else { return };
    until_it_serves(address);
    let fetched = fetch(
        "release",
        &format!("connect tcp {address}"),
        &format!("http://{address}/page.bin"),
    );
    assert!(fetched.ends_with(0).output == page);
}

/// A store of objects: `PUT /KEY`, `GET /KEY`, `GET /` for the list of keys.
async fn object_store() -> SocketAddr {
    use std::collections::BTreeMap;
    use std::sync::Mutex;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let objects = Arc::new(Mutex::new(BTreeMap::<String, String>::new()));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let objects = objects.clone();
            tokio::spawn(async move {
                let mut request = String::new();
                let body = loop {
                    let mut buffer = [0; 1024];
                    let length = stream.read(&mut buffer).await.unwrap();
                    request += std::str::from_utf8(&buffer[..length]).unwrap();
                    let Some((head, body)) = request.split_once("\r\n\r\n") else {
                        continue;
                    };
                    let expected = head.split("Content-Length: ").nth(1).unwrap().lines().next();
                    if body.len() == expected.unwrap().parse::<usize>().unwrap() {
                        break body.to_owned();
                    }
                };
                let words: Vec<_> = request.split(' ').collect();
                let (status, answer) = match (words[0], words[1].trim_start_matches('/')) {
                    ("PUT", key) => {
                        objects.lock().unwrap().insert(key.to_owned(), body);
                        ("201 Created", String::new())
                    }
                    (_, "") => {
                        let keys: Vec<_> = objects.lock().unwrap().keys().cloned().collect();
                        ("200 OK", keys.join("\n"))
                    }
                    (_, key) => match objects.lock().unwrap().get(key) {
                        Some(object) => ("200 OK", object.clone()),
                        None => ("404 Not Found", String::new()),
                    },
                };
                let answer = format!(
                    "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{answer}",
                    answer.len()
                );
                stream.write_all(answer.as_bytes()).await.unwrap();
            });
        }
    });
    address
}

// The command finds the name by a server of its own, and the guest holds that one name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_object_store_client_holds_one_name() {
    use crate::support::dns::{Dns, Does, Record};
    const NAME: &str = "store.example.com";
    let store = object_store().await;
    let dns = Dns::start(vec![Does::Answers(vec![Record::Address(NAME, "127.0.0.1", 60)])]).await;
    let port = store.port().to_string();
    let grant = format!("net=connect tcp {NAME}:{port}; names to loopback; limit connections 1, out 1kB");
    let server = dns.address.to_string();
    let run_for = |name: &'static str, arguments: &'static [&'static str]| {
        let module = guest("release", "object-store");
        let first = [
            "run",
            module.to_str().unwrap(),
            "--grant",
            &grant,
            "--dns",
            &server,
            "--",
        ];
        let arguments = first
            .into_iter()
            .chain([name, &port])
            .chain(arguments.iter().copied());
        refcap(arguments)
    };
    let run = |arguments| run_for(NAME, arguments);
    tokio::task::block_in_place(|| {
        run(&["put", "notes/today", "all is well"]).ends_with(0);
        run(&["put", "notes/now", "still"]).ends_with(0);
        run(&["get", "notes/today"]).ends_with(0).shows(&["all is well"]);
        run(&["list"]).ends_with(0).shows(&["notes/now\nnotes/today"]);
        run(&["get", "nothing"])
            .ends_with(1)
            .says(&["there is no `nothing`"]);
        run(&["get", "a b"]).ends_with(1).says(&["`a b` is not a key"]);
    });
    // The name that was granted, and no other.
    let elsewhere = tokio::task::block_in_place(|| run_for("other.example.com", &["list"]));
    elsewhere
        .ends_with(1)
        .says(&["no rule allows connect tcp other.example.com"]);
    assert!(
        dns.asked().iter().all(|question| question.starts_with(NAME)),
        "{:?}",
        dns.asked()
    );
}
