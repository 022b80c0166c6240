//! Tests sessions and calls whose server does not respond, with a real server that is paused and resumed.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use pgkeras::{ActOptions, Client, ClientOptions, Error, Mode, Outcome, Output, PlayOptions, StepOptions, Tls};

/// Observations that the shipped policy answers with different actions.
const FALLS_LEFT: &[f32; 4] = &[0.0, 0.0, -0.1, -1.0];
const FALLS_RIGHT: &[f32; 4] = &[0.0, 0.0, 0.1, 1.0];
const GREEDY: PlayOptions<'_> =
    PlayOptions { mode: Mode::Greedy, seed: None, outputs: &[], timeout: None, simulator: None };
const GOING_ON: Option<Outcome> = Some(Outcome { reward: 1.0, terminated: false, truncated: false });

/// A server process: `python3 -m pgkeras serve`, or with the interpreter in `$PGKERAS_PYTHON`.
struct Server {
    process: Child,
    port_file: PathBuf,
}

impl Server {
    async fn start(name: &str) -> Self {
        let python = std::env::var("PGKERAS_PYTHON").unwrap_or("python3".into());
        let port_file = std::env::temp_dir().join(format!("pgkeras-rust-{}-{name}", std::process::id()));
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../saved_models");
        let mut command = Command::new(&python);
        command.args(["-m", "pgkeras", "serve", root, "--port", "0", "--port-file"]).arg(&port_file);
        let mut process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        while !port_file.exists() {
            let ended = process.try_wait().unwrap();
            assert!(ended.is_none(), "{python} -m pgkeras serve has ended: install pgkeras[serve] for it");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Server { process, port_file }
    }

    fn target(&self) -> String {
        format!("127.0.0.1:{}", std::fs::read_to_string(&self.port_file).unwrap().trim())
    }

    fn client(&self) -> Client {
        Client::new(self.target(), ClientOptions::default()).unwrap()
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill").args([name, &self.process.id().to_string()]).status().unwrap();
        assert!(status.success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_file(&self.port_file);
    }
}

/// Starts a proxy that delays all data of the server. Returns its address.
fn delayed(target: String, delay: Duration) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let mut server = TcpStream::connect(target).unwrap();
        let (mut asked, mut asking) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        std::thread::spawn(move || std::io::copy(&mut asked, &mut asking));
        let (said, words) = mpsc::channel::<(Instant, Vec<u8>)>();
        std::thread::spawn(move || {
            for (at, word) in words {
                std::thread::sleep((at + delay).saturating_duration_since(Instant::now()));
                client.write_all(&word).unwrap();
            }
        });
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = server.read(&mut buffer) {
            said.send((Instant::now(), buffer[..length].to_vec())).unwrap();
        }
    });
    address
}

/// Starts a proxy that can silently drop the data of its connections, as when a machine loses power. Returns its
/// address, and the number of connections to drop.
fn black_hole(target: String) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let swallowed = Arc::new(AtomicUsize::new(0)); // drops the data of the first this many connections
    let shared = swallowed.clone();
    std::thread::spawn(move || {
        for (number, client) in listener.incoming().enumerate() {
            let (client, server) = (client.unwrap(), TcpStream::connect(&target).unwrap());
            for (mut from, mut to) in [
                (client.try_clone().unwrap(), server.try_clone().unwrap()),
                (server.try_clone().unwrap(), client.try_clone().unwrap()),
            ] {
                let swallowed = shared.clone();
                std::thread::spawn(move || {
                    let mut buffer = [0; 4096];
                    while let Ok(length @ 1..) = from.read(&mut buffer) {
                        if swallowed.load(Ordering::SeqCst) <= number && to.write_all(&buffer[..length]).is_err() {
                            break;
                        }
                    }
                });
            }
        }
    });
    (address, swallowed)
}

fn within(milliseconds: u64) -> Option<Duration> {
    Some(Duration::from_millis(milliseconds))
}

#[tokio::test]
async fn a_step_that_misses_its_deadline_loses_its_action_and_the_next_step_works() {
    let server = Server::start("late").await;
    let mut session = server.client().play(&GREEDY).await.unwrap();
    session.begin(FALLS_LEFT).await.unwrap();
    server.signal("-STOP");
    for _ in 0..5 {
        let options = StepOptions { timeout: within(20), ..Default::default() };
        let late = session.step_with(FALLS_LEFT, GOING_ON, &options).await;
        assert!(matches!(late, Err(Error::DeadlineExceeded(_))), "{late:?}");
    }
    server.signal("-CONT");
    let answer = session.step(FALLS_RIGHT, 1.0, false, false).await.unwrap();
    assert_eq!(answer.action.item::<i64>(0), Ok(1));
}

#[tokio::test]
async fn a_step_whose_future_is_dropped_counts_like_a_late_one() {
    let server = Server::start("dropped").await;
    let mut session = server.client().play(&GREEDY).await.unwrap();
    server.signal("-STOP");
    let dropped = tokio::time::timeout(Duration::from_millis(20), session.begin(FALLS_LEFT)).await;
    assert!(dropped.is_err());
    server.signal("-CONT");
    let answer = session.step(FALLS_RIGHT, 1.0, false, false).await.unwrap();
    assert_eq!(answer.action.item::<i64>(0), Ok(1));
}

#[tokio::test]
async fn nothing_hangs_while_the_server_is_paused() {
    let server = Server::start("still").await;
    let client = server.client();
    let mut session = client.play(&GREEDY).await.unwrap();
    session.begin(FALLS_LEFT).await.unwrap();
    server.signal("-STOP");
    let late = client.act(FALLS_LEFT, &ActOptions { timeout: within(50), ..Default::default() }).await;
    assert!(matches!(late, Err(Error::DeadlineExceeded(_))), "{late:?}");
    let late = client.play(&PlayOptions { timeout: within(50), ..GREEDY }).await.err();
    assert!(matches!(late, Some(Error::DeadlineExceeded(_))), "{late:?}");
    // Sending to a server that does not read does not hang either.
    let rows = vec![0.0_f32; 4 << 16];
    let rows = pgkeras::Array::new(&rows, &[1 << 16, 4]).unwrap();
    for _ in 0..20 {
        let options = StepOptions { timeout: within(5), ..Default::default() };
        let late = session.step_batch_with(rows.clone(), None, &options).await;
        assert!(matches!(late, Err(Error::DeadlineExceeded(_))), "{late:?}");
    }
}

#[tokio::test]
async fn opening_the_first_session_respects_the_timeout() {
    let server = Server::start("slow").await;
    let target = delayed(server.target(), Duration::from_millis(200));
    let client = Client::new(target, ClientOptions::default()).unwrap();
    let options = PlayOptions { timeout: within(350), ..GREEDY };
    let late = client.play(&options).await.err(); // calls GetPolicy twice
    assert!(matches!(late, Some(Error::DeadlineExceeded(_))), "{late:?}");
}

#[tokio::test]
async fn a_silently_lost_connection_is_replaced() {
    let server = Server::start("hole").await;
    let (target, swallowed) = black_hole(server.target());
    let client = Client::new(target, ClientOptions::default()).unwrap();
    let mut session = client.play(&GREEDY).await.unwrap();
    session.begin(FALLS_LEFT).await.unwrap();
    swallowed.store(1, Ordering::SeqCst);
    let late = client.act(FALLS_LEFT, &ActOptions { timeout: within(500), ..Default::default() }).await;
    assert!(matches!(late, Err(Error::DeadlineExceeded(_))), "{late:?}");
    assert!(!session.is_over());
    let gone =
        session.step_with(FALLS_LEFT, GOING_ON, &StepOptions { timeout: within(100_000), ..Default::default() }).await;
    assert!(matches!(gone, Err(Error::ServerUnavailable { .. })), "{gone:?}");
    assert!(session.is_over());
    client.act(FALLS_LEFT, &ActOptions { timeout: within(100_000), ..Default::default() }).await.unwrap();
    client.play(&GREEDY).await.unwrap().begin(FALLS_LEFT).await.unwrap();
}

#[tokio::test]
async fn the_longest_timeout_is_accepted() {
    let server = Server::start("long").await;
    let client = server.client();
    let longest = Some(Duration::MAX);
    client.act(FALLS_LEFT, &ActOptions { timeout: longest, ..Default::default() }).await.unwrap();
    let mut session = client.play(&PlayOptions { timeout: longest, ..GREEDY }).await.unwrap();
    session.begin(FALLS_LEFT).await.unwrap();
}

#[tokio::test]
async fn a_token_is_sent_over_tls_or_to_this_machine() {
    let connect = |target, tls| {
        Client::new(target, ClientOptions { token: Some("secret".into()), tls, ..Default::default() }).map(|_| ())
    };
    for target in ["robot.example:50051", "10.0.0.7:50051", "127.example.com:50051", "localhost:1@robot.example:1"] {
        let refused = connect(target, None);
        assert!(matches!(&refused, Err(Error::InvalidRequest { field, .. }) if field == "token"), "{refused:?}");
        assert_eq!(connect(target, Some(Tls::default())), Ok(()));
    }
    for target in ["127.0.0.1:1", "127.0.0.5:1", "localhost:1", "[::1]:1"] {
        assert_eq!(connect(target, None), Ok(()));
    }
}

#[tokio::test]
async fn a_token_with_invalid_characters_is_refused() {
    for token in ["", "secret\n", " secret", "secret ", "sec\tret", "gehe\u{ef}m"] {
        let options = ClientOptions { token: Some(token.into()), ..Default::default() };
        let refused = Client::new("127.0.0.1:1", options).map(|_| ());
        assert!(
            matches!(&refused, Err(Error::InvalidRequest { field, .. }) if field == "token"),
            "{token:?}: {refused:?}"
        );
    }
}

#[tokio::test]
async fn an_invalid_certificate_is_refused() {
    let junk = || "client.pem".to_owned();
    let as_root = Tls { root_certificates: Some(junk()), ..Default::default() };
    let as_own = Tls { identity: Some((junk(), junk())), ..Default::default() };
    for tls in [as_root, as_own] {
        let refused = Client::new("127.0.0.1:1", ClientOptions { tls: Some(tls), ..Default::default() }).map(|_| ());
        assert!(matches!(&refused, Err(Error::InvalidRequest { field, .. }) if field == "tls"), "{refused:?}");
    }
}

#[tokio::test]
async fn an_invalid_message_leaves_the_session_unchanged() {
    let server = Server::start("wrong").await;
    let mut session = server.client().play(&GREEDY).await.unwrap();
    let wrong = session.begin(&[0.0_f64; 4]).await;
    assert!(matches!(wrong, Err(Error::InvalidRequest { .. })), "{wrong:?}");
    assert_eq!(session.begin(FALLS_RIGHT).await.unwrap().action.item::<i64>(0), Ok(1));
}

#[tokio::test]
async fn the_requested_outputs_are_returned() {
    let server = Server::start("outputs").await;
    let outputs = &[Output::LogProb, Output::Entropy, Output::GreedyAction];
    let mut session = server.client().play(&PlayOptions { outputs, ..GREEDY }).await.unwrap();
    let full = session.begin(FALLS_RIGHT).await.unwrap();
    assert!(full.log_prob.is_some() && full.entropy.is_some());
    assert_eq!(full.greedy_action.unwrap().item::<i64>(0), Ok(1));
    let lean = server.client().play(&GREEDY).await.unwrap().begin(FALLS_RIGHT).await.unwrap();
    assert!(lean.log_prob.is_none() && lean.entropy.is_none() && lean.greedy_action.is_none());
}

#[tokio::test]
async fn a_server_that_dies_ends_its_sessions() {
    let server = Server::start("dies").await;
    let client = server.client();
    let mut session = client.play(&GREEDY).await.unwrap();
    session.begin(FALLS_LEFT).await.unwrap();
    drop(server);
    for _ in 0..2 {
        let gone = session.step(FALLS_LEFT, 1.0, false, false).await;
        assert!(matches!(gone, Err(Error::ServerUnavailable { .. })), "{gone:?}");
    }
    let gone = client.act(FALLS_LEFT, &ActOptions { timeout: within(1000), ..Default::default() }).await;
    assert!(matches!(gone, Err(Error::ServerUnavailable { .. })), "{gone:?}");
}

#[tokio::test]
async fn a_message_that_is_too_large_is_an_invalid_request() {
    let server = Server::start("large").await;
    let rows = vec![0.0_f32; 4 << 22];
    let rows = pgkeras::Array::new(&rows, &[1 << 22, 4]).unwrap();
    let wrong = server.client().act(rows, &ActOptions::default()).await;
    assert!(matches!(&wrong, Err(Error::InvalidRequest { field, .. }) if field == "message"), "{wrong:?}");
}

#[tokio::test]
async fn an_invalid_target_is_named() {
    let wrong = Client::new("no target", ClientOptions::default());
    assert!(matches!(&wrong, Err(Error::InvalidRequest { field, .. }) if field == "target"), "{wrong:?}");
}
