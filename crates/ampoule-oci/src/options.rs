//! How snapshots are pushed and pulled.

/// How to reach a registry, and how much to take from it.
///
/// The default is a registry that speaks HTTPS, with a certificate that the system trusts, and credentials of Docker's
/// configuration: `$DOCKER_CONFIG/config.json` or `~/.docker/config.json`, with the helpers that it names.
#[derive(Clone, Default)]
pub struct Options {
    pub(crate) plain_http: bool,
    pub(crate) credentials: Credentials,
    pub(crate) size_limit: Option<u64>,
}

/// Who asks.
#[derive(Clone, Default)]
pub(crate) enum Credentials {
    /// Whoever Docker's configuration has for the registry, or nobody.
    #[default]
    Docker,
    Anonymous,
    Password {
        user: String,
        password: String,
    },
}

impl Options {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Speaks HTTP without TLS, as a registry on the same machine does. Whoever is on the way can read and change everything,
    /// passwords included.
    #[must_use]
    pub fn plain_http(mut self, plain: bool) -> Self {
        self.plain_http = plain;
        self
    }

    /// Uses these credentials instead of those of Docker's configuration.
    #[must_use]
    pub fn password(mut self, user: impl Into<String>, password: impl Into<String>) -> Self {
        self.credentials = Credentials::Password { user: user.into(), password: password.into() };
        self
    }

    /// Uses no credentials.
    #[must_use]
    pub fn anonymous(mut self) -> Self {
        self.credentials = Credentials::Anonymous;
        self
    }

    /// How many bytes the files of a snapshot may have together when it is pulled, whether they are there already or not.
    ///
    /// Default: 8 GiB.
    #[must_use]
    pub fn size_limit(mut self, bytes: u64) -> Self {
        self.size_limit = Some(bytes);
        self
    }
}

impl std::fmt::Debug for Options {
    /// Without the password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("plain_http", &self.plain_http)
            .field("size_limit", &self.size_limit)
            .finish_non_exhaustive()
    }
}
