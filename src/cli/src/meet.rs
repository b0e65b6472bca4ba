//! `--meet FILE`: a file with the server's address, which the server writes and drivers read.
//!
//! ```text
//! {"host":"node17","port":40123,"token":"5f0c…"}      or "path" of a unix socket
//! ```
//!
//! The token shows each side that the other one belongs to the file: after a server has ended, its
//! port may belong to another program. Both sides present the token within the protocol. The server
//! sends it as a parameter of INIT, `meet:5f0c…`. Without it the driver does not compute, so the
//! driver asks for INIT. The driver sends it as the first bytes of the extras of its first reply,
//! `{"meet":"5f0c…"}`, and the server removes it; the protocol has no other place for a driver's
//! text. A file without a token was written by hand for another program such as i-PI; then no token
//! is presented.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use forcewire::Parameters;
use forcewire::net::{Address, ConnectOptions, Stream, connect_with};
use serde::{Deserialize, Serialize};

/// The key of the parameter in INIT.
pub const KEY: &str = "meet";

/// The content of the file.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Place {
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<Token>,
}

/// The secret that server and driver share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token(String);

impl Token {
    /// 128 random bits.
    fn random() -> io::Result<Self> {
        let mut bytes = [0; 16];
        File::open("/dev/urandom")?.read_exact(&mut bytes)?;
        Ok(Self(format!("{:032x}", u128::from_ne_bytes(bytes))))
    }

    /// A text of INIT with the token. The token comes first, because drivers may keep only the
    /// beginning.
    pub fn put_into_init(&self, text: &[u8]) -> Vec<u8> {
        let mut init = format!(" {KEY}:{}", self.0).into_bytes();
        if !text.trim_ascii().is_empty() {
            init.push(b',');
            init.extend(text);
        }
        init
    }

    /// Whether a server has presented the token.
    pub fn is_among(&self, mut parameters: Parameters<'_>) -> bool {
        parameters.any(|(key, value)| key == KEY && value == self.0)
    }

    /// The prefix of the extras of a driver's first reply.
    pub fn before_extras(&self) -> Vec<u8> {
        format!("{{\"{KEY}\":\"{}\"}}", self.0).into_bytes()
    }

    /// Removes the token from extras. Returns whether it was there.
    pub fn take_off(&self, extras: &mut Vec<u8>) -> bool {
        let before = self.before_extras();
        let is_there = extras.starts_with(&before);
        if is_there {
            extras.drain(..before.len());
        }
        is_there
    }
}

/// A file that exists as long as its server.
pub struct Announced {
    path: PathBuf,
    text: String,
    pub token: Token,
}

impl Announced {
    /// Writes the file atomically, readable by this user only.
    pub fn write(path: &Path, address: &Address) -> io::Result<Self> {
        let token = Token::random()?;
        let mut place = Place {
            token: Some(token.clone()),
            ..Place::default()
        };
        match address {
            Address::Tcp { host, port } => {
                (place.host, place.port) = (Some(reachable(host)), Some(*port));
            }
            Address::Unix(path) => place.path = Some(std::path::absolute(path)?),
        }
        let text = serde_json::to_string(&place)? + "\n";
        let named =
            |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        replace(path, &text).map_err(named)?;
        Ok(Self {
            path: path.to_owned(),
            text,
            token,
        })
    }
}

impl Drop for Announced {
    fn drop(&mut self) {
        // Keep the file if another server has written it since.
        if fs::read_to_string(&self.path).is_ok_and(|text| text == self.text) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Replaces a file, if it exists. A reader finds either the old or the new text.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}", std::process::id()));
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let written = options
        .open(&name)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .and_then(|()| fs::rename(&name, path));
    if written.is_err() {
        let _ = fs::remove_file(&name);
    }
    written
}

/// A name for this host, for a server that listens on all addresses.
fn reachable(host: &str) -> String {
    #[cfg(unix)]
    if host
        .parse()
        .is_ok_and(|ip: std::net::IpAddr| ip.is_unspecified())
    {
        return rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned();
    }
    host.to_owned()
}

/// Where to find a server.
#[derive(Clone, Debug)]
pub enum Target {
    Address(Address),
    /// A server whose address is in the file.
    File(PathBuf),
}

impl Target {
    /// Makes one attempt to connect; also returns the token if the file has one.
    pub fn connect(&self, options: ConnectOptions) -> io::Result<(Stream, Option<Token>)> {
        let (address, token) = match self {
            Self::Address(address) => (address.clone(), None),
            Self::File(path) => read(path).map_err(|error| {
                let text = match error.kind() {
                    ErrorKind::NotFound => "no server has written it yet".to_owned(),
                    _ => error.to_string(),
                };
                io::Error::new(error.kind(), format!("{}: {text}", path.display()))
            })?,
        };
        let stream = connect_with(&address, options.connect(Duration::ZERO), |_, _| {})?;
        Ok((stream, token))
    }
}

fn read(path: &Path) -> io::Result<(Address, Option<Token>)> {
    let mut file = File::open(path)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let metadata = file.metadata()?;
        let ours = [0, rustix::process::geteuid().as_raw()].contains(&metadata.uid());
        if !ours || metadata.mode() & 0o022 != 0 {
            let text = "others can write it, so it may lead anywhere";
            return Err(io::Error::new(ErrorKind::PermissionDenied, text));
        }
    }
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    let place: Place = serde_json::from_str(&text)?;
    let address = match (place.host, place.port, place.path) {
        (Some(host), Some(port), None) => Address::tcp(host, port),
        (None, None, Some(path)) => Address::Unix(path),
        _ => {
            let text = "it has neither host and port nor the path of a unix socket";
            return Err(io::Error::new(ErrorKind::InvalidData, text));
        }
    };
    Ok((address, place.token))
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("meet:") {
            Some(path) => Ok(Self::File(path.into())),
            None => match text.parse() {
                Ok(address) => Ok(Self::Address(address)),
                Err(error) => Err(format!("{error}, or meet:FILE")),
            },
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::File(path) => write!(f, "the server of {}", path.display()),
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_says_where_and_is_for_one_user() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("meet");
        for address in [Address::tcp("::1", 5), Address::unix("/tmp/ipi_", "a")] {
            let announced = Announced::write(&path, &address).unwrap();
            let mode = fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
            let (found, token) = read(&path).unwrap();
            assert_eq!((found, token.unwrap()), (address, announced.token.clone()));
            // The file of another server is kept.
            let other = Announced::write(&path, &Address::tcp("localhost", 6)).unwrap();
            assert_ne!(other.token, announced.token);
            drop(announced);
            assert!(path.exists());
            drop(other);
            assert!(!path.exists());
        }
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_file_that_others_can_write_is_not_believed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("meet");
        fs::write(&path, r#"{"host":"localhost","port":31415}"#).unwrap();
        for (mode, is_believed) in [(0o644, true), (0o664, false), (0o602, false)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(read(&path).is_ok(), is_believed, "{mode:o}");
        }
    }

    #[test]
    fn what_is_no_place_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("meet");
        for text in [
            "",
            "{",
            "[]",
            "{}",
            r#"{"host":"a"}"#,
            r#"{"host":"a","port":70000}"#,
        ] {
            fs::write(&path, text).unwrap();
            assert!(read(&path).is_err(), "{text}");
        }
    }

    #[test]
    fn a_token_is_first_in_init_and_in_extras() {
        let token = Token("5f".into());
        assert_eq!(token.put_into_init(b" "), b" meet:5f");
        let init = token.put_into_init(b" k : 1 ");
        assert_eq!(init, b" meet:5f, k : 1 ");
        let parameters = |text| Parameters::new(std::str::from_utf8(text).unwrap());
        assert!(token.is_among(parameters(&init)));
        assert!(!token.is_among(Parameters::new(" meet:5f0, k:5f")));
        let mut extras = token.before_extras();
        extras.extend(b"{}");
        assert!(token.take_off(&mut extras));
        assert_eq!(extras, b"{}");
        assert!(!token.take_off(&mut extras));
    }
}
