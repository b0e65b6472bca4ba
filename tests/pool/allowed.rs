//! Which peers may connect, on both sides.

use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use forcewire::Deadlines;
use forcewire::net::{Address, ConnectOptions, LeftReason, PoolEvent, PoolOptions, connect_with};

use crate::peers::{LIMIT, Server};
use forcewire_support::{READY, STATUS};

const ONCE: ConnectOptions = ConnectOptions::new()
    .connect(Duration::ZERO)
    .deadlines(Deadlines::NONE.message(LIMIT));

#[test]
fn addresses_that_are_not_allowed_hear_nothing() {
    for (allow, is_allowed) in [
        ("10.0.0.0/8", false),
        ("::1", false),
        ("127.0.0.0/8", true),
        ("127.0.0.1", true),
    ] {
        let mut server = Server::new(PoolOptions::default().allow(vec![allow.parse().unwrap()]));
        let address = server.pool.listen(&Address::tcp("127.0.0.1", 0)).unwrap();
        let mut stream = TcpStream::connect(address.to_string()).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        std::io::Write::write_all(&mut stream, READY).unwrap();
        match server.next() {
            PoolEvent::Joined { .. } => assert!(is_allowed, "{allow}"),
            PoolEvent::Left { peer, why, .. } => {
                assert!(
                    matches!(why, LeftReason::NotAllowed) && !is_allowed,
                    "{why}"
                );
                assert_eq!(peer, stream.local_addr().unwrap().to_string());
                // Its READY was not read, so the end of the connection is a reset.
                let mut heard = Vec::new();
                let _ = std::io::Read::read_to_end(&mut stream, &mut heard);
                assert_eq!(heard, b"");
            }
            event => panic!("{event:?}"),
        }
        assert_eq!(server.pool.drivers(), usize::from(is_allowed));
    }
}

#[test]
fn a_socket_is_for_its_user_alone_unless_told_otherwise() {
    let mode = |server: &Server| fs::metadata(server.path()).unwrap().permissions().mode() & 0o777;
    let ours = Server::new(PoolOptions::default());
    assert_eq!(mode(&ours), 0o600);
    let everyones = Server::new(PoolOptions::default().any_user(true));
    assert_ne!(mode(&everyones), 0o600);
}

#[test]
fn a_peer_is_called_by_its_process() {
    let mut server = Server::new(PoolOptions::default());
    let mut driver = server.play();
    driver.says(READY);
    let PoolEvent::Joined { peer, .. } = server.next() else {
        panic!("no driver")
    };
    let expected = format!("process {} at {}", std::process::id(), server.address);
    assert_eq!(peer, expected);
    driver.hears(STATUS);
}

/// A process of another user, `nobody`: a Perl script, because every Debian has Perl. Only root can
/// start one.
fn stranger(script: &str, socket: &Path) -> Option<Child> {
    let possible = rustix::process::geteuid().is_root() && Path::new("/usr/bin/perl").exists();
    if !possible {
        eprintln!("not tested: it takes root and Perl to be another user");
        return None;
    }
    let directory = socket.parent().unwrap();
    fs::set_permissions(directory, Permissions::from_mode(0o777)).unwrap();
    let mut command = Command::new("/usr/bin/perl");
    command
        .args(["-MIO::Socket::UNIX", "-e", script])
        .arg(socket)
        .current_dir("/")
        .stdout(Stdio::piped())
        .uid(65534)
        .gid(65534);
    Some(command.spawn().unwrap())
}

#[test]
fn another_user_is_not_let_in() {
    let script = "my $s = IO::Socket::UNIX->new(Peer => $ARGV[0]) or exit 3; sysread($s, my $b, 12) ? exit 0 : exit 4;";
    // The file's mode keeps the process out, or else the check of its user.
    for (mode, any_user, status) in [(0o600, false, 3), (0o666, false, 4), (0o666, true, 0)] {
        let mut server = Server::new(PoolOptions::default().any_user(any_user));
        fs::set_permissions(server.path(), Permissions::from_mode(mode)).unwrap();
        let Some(mut stranger) = stranger(script, &server.path()) else {
            return;
        };
        let ended = loop {
            let event = server.pool.next(Some(Duration::from_millis(5))).unwrap();
            match event {
                Some(PoolEvent::Left {
                    why: LeftReason::NotAllowed,
                    peer,
                    ..
                }) => assert_eq!(
                    peer,
                    format!("process {} at {}", stranger.id(), server.address)
                ),
                Some(PoolEvent::Left { .. }) if any_user => {}
                Some(event) => panic!("{event:?}"),
                None => {}
            }
            if let Some(ended) = stranger.try_wait().unwrap() {
                break ended;
            }
        };
        assert_eq!(ended.code(), Some(status), "mode {mode:o}");
    }
}

#[test]
fn another_users_server_is_not_trusted() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("theirs");
    let script = "my $l = IO::Socket::UNIX->new(Local => $ARGV[0], Listen => 1) or die; chmod 0666, $ARGV[0]; \
                  $| = 1; print \"listening\\n\"; my $s = $l->accept; sysread($s, my $b, 1); sleep 60;";
    let Some(mut stranger) = stranger(script, &path) else {
        return;
    };
    let mut line = [0; 10];
    std::io::Read::read_exact(stranger.stdout.as_mut().unwrap(), &mut line).unwrap();
    let error = connect_with(&Address::Unix(path), ONCE, |_, _| {}).unwrap_err();
    stranger.kill().unwrap();
    stranger.wait().unwrap();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    assert!(
        error.to_string().contains("belongs to user 65534"),
        "{error}"
    );
}

#[test]
fn a_symbolic_link_is_not_followed() {
    let server = Server::new(PoolOptions::default());
    let link = server.path().with_file_name("link");
    symlink(server.path(), &link).unwrap();
    let error = connect_with(&Address::Unix(link), ONCE, |_, _| {}).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    assert!(error.to_string().contains("symbolic link"), "{error}");
}

#[test]
fn a_pool_does_not_replace_what_a_symbolic_link_leads_to() {
    let directory = tempfile::tempdir().unwrap();
    let (stale, link) = (
        directory.path().join("stale"),
        directory.path().join("link"),
    );
    drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
    symlink(&stale, &link).unwrap();
    let mut pool = forcewire::net::Pool::new(PoolOptions::default()).unwrap();
    let error = pool.listen(&Address::Unix(link.clone())).unwrap_err();
    assert!(error.to_string().contains("no socket"), "{error}");
    assert!(stale.exists() && link.is_symlink());
}
