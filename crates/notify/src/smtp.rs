//! Messages as mail through a server that takes them: TLS from the start, by STARTTLS, or plain to this host.
//!
//! A message counts as sent once the server has taken it for all recipients. An answer of 4xx, the network and a
//! certificate that does not fit are worth another attempt; 5xx and a server without what is asked of it are not. The
//! `Message-ID` is the same for every attempt.

use crate::channel::{Channel, Rejected, SendError, require_certificate};
use crate::event::Message;
use crate::webhook::is_loopback;
use lettre::Transport;
use lettre::address::Envelope;
use lettre::message::Mailbox;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::transport::smtp::SmtpTransport;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lifeboat_base::Secret;
use lifeboat_base::clock::Timestamp;
use reqwest::Url;
use std::time::{Duration, SystemTime};

/// How the connection is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encryption {
    /// TLS from the first byte; port 465 unless another is named.
    Tls,
    /// Plain at first, then TLS, or nothing at all is sent; port 587 unless another is named.
    StartTls,
    /// None; only to this host; port 25 unless another is named.
    Plain,
}

impl Encryption {
    fn port(self) -> u16 {
        match self {
            Self::Tls => 465,
            Self::StartTls => 587,
            Self::Plain => 25,
        }
    }
}

/// Where and how mail is handed in.
#[derive(Clone, Debug)]
pub struct SmtpSettings {
    /// The channel's name.
    pub name: String,
    /// The server.
    pub host: String,
    /// Its port.
    pub port: Option<u16>,
    /// How the connection is encrypted.
    pub encryption: Encryption,
    /// User and password, where the server asks for them.
    pub credentials: Option<(String, Secret)>,
    /// Who it is from: `Lifeboat <lifeboat@example.org>`.
    pub from: String,
    /// Who it is for.
    pub to: Vec<String>,
    /// The longest silence of the server.
    pub timeout: Duration,
    /// A certificate in PEM of an authority of one's own, beside those of the machine.
    pub authority: Option<Vec<u8>>,
}

/// The longest silence of a server, unless another is set.
const TIMEOUT: Duration = Duration::from_secs(30);

impl SmtpSettings {
    /// A server by its URL: `smtp://HOST[:PORT]` with STARTTLS, `smtps://HOST[:PORT]` with TLS from the first byte,
    /// `smtp+plain://HOST[:PORT]` with neither. Without credentials, with a timeout of 30 seconds.
    ///
    /// # Errors
    /// Where it is no such URL. One with a user or a password is none: a plan holds no secret.
    pub fn at(name: &str, url: &str, from: &str, to: Vec<String>) -> Result<Self, Rejected> {
        let rejected = |what: &str| Rejected::new(name, what);
        let parsed = Url::parse(url).map_err(|_| rejected("its URL cannot be read"))?;
        let encryption = match parsed.scheme() {
            "smtp" => Encryption::StartTls,
            "smtps" => Encryption::Tls,
            "smtp+plain" => Encryption::Plain,
            _ => return Err(rejected("its URL is none of smtp, smtps and smtp+plain")),
        };
        let is_bare = matches!(parsed.path(), "" | "/")
            && parsed.query().is_none()
            && parsed.fragment().is_none()
            && parsed.username().is_empty()
            && parsed.password().is_none();
        let host = parsed.host_str().filter(|_| is_bare);
        let host = host.ok_or_else(|| rejected("its URL is more, or less, than a host and a port"))?;
        Ok(Self {
            name: name.to_owned(),
            host: host.trim_matches(['[', ']']).to_owned(),
            port: parsed.port(),
            encryption,
            credentials: None,
            from: from.to_owned(),
            to,
            timeout: TIMEOUT,
            authority: None,
        })
    }
}

/// A channel that sends mail.
pub struct Smtp {
    name: String,
    host: String,
    from: Mailbox,
    to: Vec<Mailbox>,
    transport: SmtpTransport,
}

impl Smtp {
    /// A channel of these settings. Nothing is sent yet.
    ///
    /// # Errors
    /// Where an address or a certificate cannot be read, nobody is named to write to, or mail would go unencrypted to
    /// another host.
    pub fn new(settings: SmtpSettings) -> Result<Self, Rejected> {
        let rejected = |what: &str| Rejected::new(&settings.name, what);
        if settings.encryption == Encryption::Plain && !is_loopback(&settings.host) {
            return Err(rejected("mail would go unencrypted to another host: use TLS or STARTTLS"));
        }
        if settings.to.is_empty() {
            return Err(rejected("nobody is named to write to"));
        }
        let from = mailbox(&settings.name, &settings.from)?;
        let to = settings.to.iter().map(|address| mailbox(&settings.name, address));
        let to = to.collect::<Result<Vec<Mailbox>, Rejected>>()?;
        let transport = transport(&settings)?;
        Ok(Self { name: settings.name, host: settings.host, from, to, transport })
    }

    fn mail(&self, message: &Message) -> Result<(Envelope, Vec<u8>), SendError> {
        let mut builder = lettre::Message::builder()
            .from(self.from.clone())
            .subject(message.subject.as_str())
            .message_id(Some(format!("<{}@{}>", message.id, self.from.email.domain())))
            .date(system_time(message.at))
            .header(ContentType::TEXT_PLAIN);
        for to in &self.to {
            builder = builder.to(to.clone());
        }
        let mail = builder.body(message.body.clone());
        let mut mail = mail.map_err(|e| SendError::never("write the message as mail", e))?;
        // RFC 3834: so that nobody's absence note answers.
        let automatic = HeaderName::new_from_ascii_str("Auto-Submitted");
        mail.headers_mut().insert_raw(HeaderValue::new(automatic, "auto-generated".to_owned()));
        Ok((mail.envelope().clone(), mail.formatted()))
    }
}

impl Channel for Smtp {
    fn name(&self) -> &str {
        &self.name
    }

    fn send(&self, message: &Message, _now: Timestamp) -> Result<(), SendError> {
        let (envelope, bytes) = self.mail(message)?;
        let outcome = self.transport.send_raw(&envelope, &bytes);
        outcome.map(drop).map_err(|error| {
            let what = format!("hand mail to {}", self.host);
            if error.is_permanent() || error.is_client() {
                SendError::never(what, error)
            } else {
                SendError::later(what, error)
            }
        })
    }
}

fn mailbox(channel: &str, address: &str) -> Result<Mailbox, Rejected> {
    address.parse().map_err(|e| Rejected::because(channel, format!("read the address {address}"), e))
}

fn transport(settings: &SmtpSettings) -> Result<SmtpTransport, Rejected> {
    let tls = match settings.encryption {
        Encryption::Tls => Tls::Wrapper(tls_parameters(settings)?),
        Encryption::StartTls => Tls::Required(tls_parameters(settings)?),
        Encryption::Plain => Tls::None,
    };
    let mut builder = SmtpTransport::builder_dangerous(&settings.host)
        .port(settings.port.unwrap_or(settings.encryption.port()))
        .tls(tls)
        // Who asks is not the receivers' business, and the host's name may say more than it should.
        .hello_name(ClientId::Domain("lifeboat".to_owned()))
        .timeout(Some(settings.timeout));
    if let Some((user, password)) = &settings.credentials {
        let password = String::from_utf8(password.expose().to_vec())
            .map_err(|_| Rejected::new(&settings.name, "its password is not UTF-8"))?;
        builder = builder.credentials(Credentials::new(user.clone(), password));
    }
    Ok(builder.build())
}

fn tls_parameters(settings: &SmtpSettings) -> Result<TlsParameters, Rejected> {
    let because = |what: &str, e| Rejected::because(&settings.name, what, e);
    let mut builder = TlsParameters::builder(settings.host.clone());
    if let Some(authority) = &settings.authority {
        require_certificate(&settings.name, authority)?;
        let certificate = Certificate::from_pem(authority).map_err(|e| because("read its authority", e))?;
        builder = builder.add_root_certificate(certificate);
    }
    builder.build_rustls().map_err(|e| because("set up TLS", e))
}

/// Mail has no date before 1970.
fn system_time(at: Timestamp) -> SystemTime {
    SystemTime::UNIX_EPOCH + at.since(Timestamp::default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(host: &str, encryption: Encryption) -> SmtpSettings {
        SmtpSettings {
            name: "mail".to_owned(),
            host: host.to_owned(),
            port: None,
            encryption,
            credentials: None,
            from: "Lifeboat <lifeboat@example.org>".to_owned(),
            to: vec!["on-call@example.org".to_owned()],
            timeout: Duration::from_secs(5),
            authority: None,
        }
    }

    #[test]
    fn a_server_is_named_by_a_url_without_a_secret() {
        let at = |url| SmtpSettings::at("mail", url, "a@example.org", vec!["b@example.org".to_owned()]);
        for (url, host, port, encryption) in [
            ("smtp://mail.example.org", "mail.example.org", None, Encryption::StartTls),
            ("smtps://mail.example.org:2465/", "mail.example.org", Some(2465), Encryption::Tls),
            ("smtp+plain://[::1]:25", "::1", Some(25), Encryption::Plain),
        ] {
            let settings = at(url).unwrap();
            assert_eq!(
                (settings.host.as_str(), settings.port, settings.encryption),
                (host, port, encryption)
            );
            assert!(Smtp::new(settings).is_ok(), "{url}");
        }
        for url in [
            "mail.example.org",
            "http://h",
            "smtp://u:p4ss@h",
            "smtp://h/x",
            "smtp://h?tls=no",
            "smtp://",
            "",
        ] {
            let error = at(url).unwrap_err();
            assert!(!format!("{error:?}").contains("p4ss"), "{error:?}");
        }
    }

    #[test]
    fn settings_that_cannot_work_are_refused() {
        assert!(Smtp::new(settings("localhost", Encryption::Plain)).is_ok());
        assert!(Smtp::new(settings("mail.example.org", Encryption::StartTls)).is_ok());
        assert!(Smtp::new(settings("mail.example.org", Encryption::Plain)).is_err());
        let good = || settings("localhost", Encryption::Tls);
        let nobody = SmtpSettings { to: vec![], ..good() };
        let crooked = SmtpSettings { from: "not an address".to_owned(), ..good() };
        let authority = SmtpSettings { authority: Some(b"no certificate".to_vec()), ..good() };
        let password =
            SmtpSettings { credentials: Some(("u".to_owned(), Secret::new(vec![0xff, 0xfe]))), ..good() };
        for wrong in [nobody, crooked, authority, password] {
            assert!(Smtp::new(wrong.clone()).is_err(), "{wrong:?}");
        }
    }
}
