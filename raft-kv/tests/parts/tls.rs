//! Who is let in at the peers' port, through real sockets.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use raft_kv::client::{Ask, Client};
use raft_kv::tls::authority::{Authority, Issued};
use raft_kv::tls::{ClientFiles, Files, Identity};
use raft_kv::transport::tls::Tls;
use raft_kv::transport::{Connection, Transport};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

const GOOD: std::ops::Range<i64> = -1..30;

/// Writes what an authority has signed; the files are as the settings name them.
fn files(dir: &Path, name: &str, authority: &Authority, issued: &Issued) -> Files {
    let write = |end: &str, content: &str| {
        let path = dir.join(format!("{name}.{end}"));
        std::fs::write(&path, content).unwrap();
        path
    };
    Files {
        cert: write("pem", &issued.cert),
        key: write("key", &issued.key),
        ca: write("ca", &authority.cert()),
    }
}

fn signed(dir: &Path, name: &str, authority: &Authority, days: std::ops::Range<i64>) -> Files {
    let issued = authority.issue(name, &["127.0.0.1".to_owned()], &days).unwrap();
    files(dir, name, authority, &issued)
}

fn tls(files: &Files) -> Tls {
    Tls::new(Arc::new(Identity::load(files, true).unwrap()))
}

/// A server that answers `yes` to whom it has let in.
async fn listen(identity: Arc<Identity>) -> String {
    let mut listener = Tls::new(identity).listen("127.0.0.1:0").await.unwrap();
    let address = listener.address();
    tokio::spawn(async move {
        loop {
            let arrival = listener.accept().await.unwrap();
            tokio::spawn(async move {
                if let Ok(mut connection) = arrival.connection.await {
                    drop(connection.write_all(b"yes").await);
                }
            });
        }
    });
    address
}

/// What a connection has got by the time it ends; nothing if it is refused.
async fn answer(connection: std::io::Result<Connection>) -> Vec<u8> {
    let mut answer = Vec::new();
    if let Ok(mut connection) = connection {
        let reading = connection.read_to_end(&mut answer);
        // A refusal comes as an error here: the other side learns of the certificate last.
        drop(timeout(Duration::from_secs(20), reading).await.expect("it ends"));
    }
    answer
}

struct Party {
    dir: TempDir,
    authority: Authority,
    address: String,
    host: Files,
    identity: Arc<Identity>,
}

impl Party {
    async fn begin() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::draw("ours").unwrap();
        let host = signed(dir.path(), "host", &authority, GOOD);
        let identity = Arc::new(Identity::load(&host, true).unwrap());
        let address = listen(Arc::clone(&identity)).await;
        Self { dir, authority, address, host, identity }
    }

    async fn lets_in(&self, files: &Files) -> bool {
        answer(tls(files).connect(&self.address).await).await == b"yes"
    }
}

#[tokio::test]
async fn only_who_shows_a_certificate_of_the_authority_that_is_good_today_is_let_in() {
    let party = Party::begin().await;
    let dir = party.dir.path();
    let guest = signed(dir, "guest", &party.authority, GOOD);
    assert!(party.lets_in(&guest).await);

    let theirs = Authority::draw("theirs").unwrap();
    let stranger = signed(dir, "stranger", &theirs, GOOD);
    let believing = Files { ca: party.host.ca.clone(), ..stranger };
    assert!(!party.lets_in(&believing).await, "signed by somebody else");
    let late = signed(dir, "late", &party.authority, -9..-2);
    assert!(!party.lets_in(&late).await, "no longer good");
    let early = signed(dir, "early", &party.authority, 2..9);
    assert!(!party.lets_in(&early).await, "not good yet");

    let mut plain = tokio::net::TcpStream::connect(&party.address).await.unwrap();
    plain.write_all(b"raftkv\x00\x01 in plain text, and long enough for a record").await.unwrap();
    let mut said = Vec::new();
    drop(timeout(Duration::from_secs(20), plain.read_to_end(&mut said)).await.expect("cut off"));
    assert!(!said.ends_with(b"yes"));

    let nobody = ClientFiles { ca: Some(party.host.ca.clone()), cert: None };
    let client = Client::with_tls(std::slice::from_ref(&party.address), &nobody).unwrap();
    assert!(client.once(&Ask::new(hyper::Method::GET, "/")).await.is_err(), "without one");
    assert!(party.lets_in(&guest).await, "and all that has harmed nobody");
}

#[tokio::test]
async fn a_server_is_believed_only_where_its_certificate_says_it_is() {
    let party = Party::begin().await;
    let elsewhere = ["elsewhere.example".to_owned()];
    let issued = party.authority.issue("elsewhere", &elsewhere, &GOOD).unwrap();
    let elsewhere = files(party.dir.path(), "elsewhere", &party.authority, &issued);
    let address = listen(Arc::new(Identity::load(&elsewhere, true).unwrap())).await;
    let refused = tls(&party.host).connect(&address).await.map(drop).unwrap_err();
    assert!(refused.to_string().contains("not valid for name"), "{refused}");

    let theirs = Authority::draw("theirs").unwrap();
    let other = signed(party.dir.path(), "other", &theirs, GOOD);
    let refused = tls(&other).connect(&party.address).await.map(drop).unwrap_err();
    assert!(refused.to_string().contains("UnknownIssuer"), "{refused}");
}

#[tokio::test]
async fn renewed_files_are_read_when_told_so_and_bad_ones_change_nothing() {
    let party = Party::begin().await;
    let (old, dir) = (signed(party.dir.path(), "guest", &party.authority, GOOD), party.dir.path());
    assert!(party.lets_in(&old).await);
    std::fs::write(&party.host.cert, "no certificate").unwrap();
    let refused = party.identity.read_again().unwrap_err();
    assert!(refused.to_string().ends_with("host.pem: it holds no certificate"), "{refused}");
    assert!(party.lets_in(&old).await, "what was in force stays in force");

    let next = Authority::draw("next").unwrap();
    signed(dir, "host", &next, GOOD);
    let renewed = party.identity.read_again().unwrap();
    assert!(party.lets_in(&old).await, "what was read is not in force before it is adopted");
    party.identity.adopt(renewed);
    assert!(!party.lets_in(&old).await);
    assert!(party.lets_in(&signed(dir, "new guest", &next, GOOD)).await);
}

/// How an authority is replaced: first everybody believes both, then everybody shows the new one's
/// certificate, then nobody believes the old one; at no moment do two of them not understand each other.
#[tokio::test]
async fn two_authorities_in_one_file_are_both_believed_while_one_replaces_the_other() {
    let party = Party::begin().await;
    // Authorities that one program has made bear one name.
    let (dir, next) = (party.dir.path(), Authority::draw("ours").unwrap());
    let old = signed(dir, "old guest", &party.authority, GOOD);
    let new = signed(dir, "new guest", &next, GOOD);
    let bundle = dir.join("bundle");
    std::fs::write(&bundle, [party.authority.cert(), next.cert()].concat()).unwrap();
    let believing_both = |files: &Files| Files { ca: bundle.clone(), ..files.clone() };
    let renew = |ca: String| {
        std::fs::write(&party.host.ca, ca).unwrap();
        party.identity.adopt(party.identity.read_again().unwrap());
    };

    renew([party.authority.cert(), next.cert()].concat());
    assert!(party.lets_in(&old).await, "who has not heard of it yet");
    assert!(party.lets_in(&believing_both(&old)).await);
    assert!(party.lets_in(&believing_both(&new)).await, "who shows the new one already");

    let host = next.issue("host", &["127.0.0.1".to_owned()], &GOOD).unwrap();
    std::fs::write(&party.host.cert, host.cert).unwrap();
    std::fs::write(&party.host.key, host.key).unwrap();
    renew([party.authority.cert(), next.cert()].concat());
    assert!(party.lets_in(&believing_both(&old)).await, "who shows the old one still");
    assert!(party.lets_in(&believing_both(&new)).await);

    renew(next.cert());
    assert!(party.lets_in(&new).await);
    assert!(!party.lets_in(&believing_both(&old)).await, "the old one is believed no more");
}

#[test]
fn what_is_wrong_with_a_file_is_said_with_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::draw("ours").unwrap();
    let good = signed(dir.path(), "good", &authority, GOOD);
    let nowhere = dir.path().join("nowhere");
    let refused = |files: Files| Identity::load(&files, true).unwrap_err().to_string();
    let without_key = refused(Files { key: nowhere.clone(), ..good.clone() });
    assert!(without_key.starts_with(nowhere.to_str().unwrap()), "{without_key}");
    let other = signed(dir.path(), "other", &authority, GOOD);
    let other_key = refused(Files { key: other.key, ..good.clone() });
    assert!(other_key.contains("good.pem: "), "{other_key}");
    let swapped = refused(Files { key: good.cert.clone(), ..good });
    assert!(swapped.contains("good.pem: "), "{swapped}");
}
