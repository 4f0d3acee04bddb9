//! Which bucket is meant, and how it is reached.
//!
//! Every option has a name here; an unknown one is refused, because the client
//! library would pass over a misspelt name in silence. Credentials come from
//! the usual environment variables and files; asking an instance's metadata
//! address for some is opted in to, so that having none is told at once.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use object_store::path::Path;

use super::bucket::{Bucket, PARTS_ABOVE_MIB, Patience};

/// A bucket and a prefix in it, as users write them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketUrl {
    /// `s3`, `az` or `gs`.
    pub scheme: Scheme,
    /// The bucket, or the container.
    pub bucket: String,
    /// What all keys begin with; may be empty.
    pub prefix: Path,
}

/// Whose object storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Amazon's, and whatever speaks like it.
    S3,
    /// Microsoft's.
    Az,
    /// Google's.
    Gs,
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::S3 => "s3",
            Self::Az => "az",
            Self::Gs => "gs",
        })
    }
}

/// A bucket that cannot be opened as it was named.
#[derive(Debug, thiserror::Error)]
pub enum OptionFault {
    /// The URL names no bucket.
    #[error("`{url}` is not a bucket: {problem}\nhint: write {example}")]
    Url {
        /// As given.
        url: String,
        /// Why.
        problem: String,
        /// A right one.
        example: &'static str,
    },
    /// No option has that name.
    #[error("unknown store option `{key}`\nhint: {known}")]
    Unknown {
        /// As given.
        key: String,
        /// What there is.
        known: String,
    },
    /// The option cannot have that value.
    #[error("store option `{key}`: {problem}")]
    Value {
        /// Its name.
        key: String,
        /// Why.
        problem: String,
    },
    /// There is nothing to sign requests with.
    #[error("no credentials for `{url}`\nhint: {hint}")]
    NoCredentials {
        /// The bucket.
        url: String,
        /// Where they are looked for.
        hint: &'static str,
    },
    /// What is sent could be read and changed on the way.
    #[error(
        "the address of the store, `{endpoint}`, is without TLS\nhint: if that is meant, as for a store on this machine: --store-option allow_http=true, in a config allow_http = true"
    )]
    WithoutTls {
        /// The address.
        endpoint: String,
    },
    /// This program was built without it.
    #[error(
        "`{url}`: this build of runpack reads no object storage of that kind\nhint: use the full build (cargo features s3, azure, gcs)"
    )]
    NotBuilt {
        /// The bucket.
        url: String,
    },
    /// The client cannot be made.
    #[error("`{url}`: {problem}")]
    Client {
        /// The bucket.
        url: String,
        /// What the client library says.
        problem: String,
    },
}

impl BucketUrl {
    /// Understands `s3://bucket/prefix`, `az://container/prefix` and
    /// `gs://bucket/prefix`; `None` for everything else.
    ///
    /// # Errors
    /// One of these schemes with something that is no bucket or no prefix.
    pub fn parse(url: &str) -> Result<Option<Self>, OptionFault> {
        let Some((scheme, rest)) = url.split_once("://") else { return Ok(None) };
        let (scheme, example) = match scheme.to_ascii_lowercase().as_str() {
            "s3" => (Scheme::S3, "s3://BUCKET/PREFIX"),
            "az" => (Scheme::Az, "az://CONTAINER/PREFIX"),
            "gs" => (Scheme::Gs, "gs://BUCKET/PREFIX"),
            _ => return Ok(None),
        };
        let wrong = |problem: String| OptionFault::Url { url: url.to_owned(), problem, example };
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        if bucket.is_empty() || !bucket.chars().all(plain) {
            return Err(wrong(format!("`{bucket}` is no name of one")));
        }
        if prefix.starts_with('/') {
            return Err(wrong("its prefix begins with a slash".to_owned()));
        }
        let prefix = Path::parse(prefix).map_err(|error| wrong(error.to_string()))?;
        Ok(Some(Self { scheme, bucket: bucket.to_owned(), prefix }))
    }

    /// The bucket without the prefix.
    pub fn root(&self) -> String {
        format!("{}://{}", self.scheme, self.bucket)
    }
}

impl fmt::Display for BucketUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.root(), self.prefix)
    }
}

/// How buckets are reached. Everything has a default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoreOptions {
    values: BTreeMap<&'static str, String>,
}

/// Name, what it is, and whose store knows it: `3` S3, `a` Azure, `g` Google.
const KNOWN: &[(&str, &str, &str)] = &[
    ("endpoint", "where the store listens, if it is not the cloud's own", "3a"),
    ("region", "the region of the bucket", "3"),
    ("profile", "which profile of ~/.aws/credentials and ~/.aws/config", "3"),
    ("path_style", "`false`: the bucket is in the host name, not in the path", "3"),
    ("account", "the storage account", "a"),
    ("emulator", "`true`: Azurite, at AZURITE_BLOB_STORAGE_URL", "a"),
    ("anonymous", "`true`: requests are not signed", "3ag"),
    ("instance_credentials", "`true`: ask the machine's metadata address for credentials", "3ag"),
    ("allow_http", "`true`: talk without TLS, as to a store on this machine", "3ag"),
    ("sse_kms_key_id", "encrypt with this key of AWS KMS", "3"),
    ("checksum", "`sha256` or `crc64nvme` with every object sent, or `none`", "3"),
    ("ca_file", "certificates to trust besides the system's, PEM", "3ag"),
    ("proxy_url", "a proxy to go through", "3ag"),
    ("connect_timeout_s", "seconds to connect within, 1 to 600", "3ag"),
    (
        "read_timeout_s",
        "seconds without a byte before a request is given up, 1 to 3600; longer while much is sent",
        "3ag",
    ),
    ("patience_s", "seconds to go on where the store is busy, 1 to 3600", "3ag"),
    ("parts_above_mib", "mebibytes of a file from which it is sent in parts, 8 to 72", "3ag"),
];

impl StoreOptions {
    /// Sets one option.
    ///
    /// # Errors
    /// No option has that name, or it cannot have that value.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), OptionFault> {
        let Some((name, _, _)) = KNOWN.iter().find(|(name, _, _)| *name == key) else {
            let close = KNOWN.iter().map(|(name, _, _)| *name).filter(|name| name.contains(key) || key.contains(name));
            let close: Vec<_> = close.collect();
            let all = || KNOWN.iter().map(|(name, _, _)| *name).collect::<Vec<_>>().join(", ");
            let known = if close.is_empty() {
                format!("there are {}", all())
            } else {
                format!("did you mean `{}`?", close.join("`, `"))
            };
            return Err(OptionFault::Unknown { key: key.to_owned(), known });
        };
        let wrong = |problem: &str| OptionFault::Value { key: key.to_owned(), problem: problem.to_owned() };
        match *name {
            "path_style" | "emulator" | "anonymous" | "instance_credentials" | "allow_http"
                if !matches!(value, "true" | "false") =>
            {
                return Err(wrong("is `true` or `false`"));
            }
            "checksum" if !matches!(value, "sha256" | "crc64nvme" | "none") => {
                return Err(wrong("is `sha256`, `crc64nvme` or `none`"));
            }
            "connect_timeout_s" if !value.parse().is_ok_and(|seconds: u64| (1..=600).contains(&seconds)) => {
                return Err(wrong("is a number of seconds from 1 to 600"));
            }
            "read_timeout_s" | "patience_s"
                if !value.parse().is_ok_and(|seconds: u64| (1..=3600).contains(&seconds)) =>
            {
                return Err(wrong("is a number of seconds from 1 to 3600"));
            }
            "parts_above_mib" if !value.parse().is_ok_and(|mebibytes: usize| PARTS_ABOVE_MIB.contains(&mebibytes)) => {
                return Err(wrong("is a number of mebibytes from 8 to 72"));
            }
            _ => {}
        }
        self.values.insert(name, value.to_owned());
        Ok(())
    }

    /// A directory that holds packs as a bucket does, under the same keys. What
    /// is written is durable once it is there.
    ///
    /// # Errors
    /// The directory is none.
    pub fn directory(&self, directory: &str, prefix: &Path) -> Result<Bucket, OptionFault> {
        let wrong = |problem: String| OptionFault::Client { url: directory.to_owned(), problem };
        if !std::path::Path::new(directory).is_dir() {
            let hint = "hint: make it first; like a bucket, it is not made by an export";
            return Err(wrong(format!("there is no such directory\n{hint}")));
        }
        let store = object_store::local::LocalFileSystem::new_with_prefix(directory);
        let store = store.map_err(|error| wrong(error.to_string()))?.with_fsync(true);
        let root = std::fs::canonicalize(directory).map_err(|error| wrong(error.to_string()))?;
        let url = format!("file://{}", root.display());
        let bucket = Bucket::new(std::sync::Arc::new(store), url.trim_end_matches('/'), prefix, self.patience());
        Ok(bucket.with_parts_above(self.parts_above_mib()))
    }

    /// What can be set, as lines of help.
    pub fn help() -> String {
        let width = KNOWN.iter().map(|(name, _, _)| name.len()).max().unwrap_or(0);
        let lines = KNOWN.iter().map(|(name, what, _)| format!("  {name:width$}  {what}"));
        lines.collect::<Vec<_>>().join("\n")
    }

    /// Opens a bucket; no request is made.
    ///
    /// # Errors
    /// See [`OptionFault`].
    #[cfg_attr(
        not(any(feature = "s3", feature = "azure", feature = "gcs")),
        allow(unreachable_code, unused_variables, reason = "without a cloud there is none to open")
    )]
    pub fn open(&self, url: &BucketUrl) -> Result<Bucket, OptionFault> {
        let letter = match url.scheme {
            Scheme::S3 => '3',
            Scheme::Az => 'a',
            Scheme::Gs => 'g',
        };
        for key in self.values.keys() {
            if !KNOWN.iter().any(|(name, _, stores)| name == key && stores.contains(letter)) {
                let problem = format!("means nothing for {}://", url.scheme);
                return Err(OptionFault::Value { key: (*key).to_owned(), problem });
            }
        }
        let store = match url.scheme {
            #[cfg(feature = "s3")]
            Scheme::S3 => clouds::s3(self, url)?,
            #[cfg(feature = "azure")]
            Scheme::Az => clouds::azure(self, url)?,
            #[cfg(feature = "gcs")]
            Scheme::Gs => clouds::gcs(self, url)?,
            #[allow(unreachable_patterns, reason = "with all features all are built")]
            _ => return Err(OptionFault::NotBuilt { url: url.to_string() }),
        };
        let bucket = Bucket::new(store, &url.root(), &url.prefix, self.patience());
        Ok(bucket.with_parts_above(self.parts_above_mib()))
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(String::as_str)
    }

    fn patience(&self) -> Patience {
        let mut patience = Patience::default();
        if let Some(seconds) = self.get("patience_s").and_then(|seconds| seconds.parse().ok()) {
            patience.total = Duration::from_secs(seconds);
            patience.pause_max = patience.pause_max.min(patience.total);
        }
        patience
    }

    fn parts_above_mib(&self) -> usize {
        self.get("parts_above_mib").and_then(|mebibytes| mebibytes.parse().ok()).unwrap_or(*PARTS_ABOVE_MIB.end())
    }

    #[cfg(any(feature = "s3", feature = "azure", feature = "gcs"))]
    fn is(&self, key: &str) -> bool {
        self.get(key) == Some("true")
    }

    #[cfg(any(feature = "s3", feature = "azure", feature = "gcs", feature = "https"))]
    fn seconds(&self, key: &str, default: u64) -> Duration {
        Duration::from_secs(self.get(key).and_then(|seconds| seconds.parse().ok()).unwrap_or(default))
    }
}

/// Time to connect, and to wait for the next byte, where nothing else is said.
/// There is no limit on a whole request: a slow link may take its time.
#[cfg(any(feature = "s3", feature = "azure", feature = "gcs", feature = "https"))]
impl StoreOptions {
    fn connect_timeout(&self) -> Duration {
        self.seconds("connect_timeout_s", 5)
    }

    fn read_timeout(&self) -> Duration {
        self.seconds("read_timeout_s", 30)
    }

    /// The certificates of `ca_file`, as `parse` reads them.
    fn certificates<C, E: fmt::Display>(
        &self,
        parse: impl Fn(&[u8]) -> Result<Vec<C>, E>,
    ) -> Result<Vec<C>, OptionFault> {
        let Some(file) = self.get("ca_file") else { return Ok(Vec::new()) };
        let wrong = |problem: String| OptionFault::Value { key: "ca_file".to_owned(), problem };
        let pem = std::fs::read(file).map_err(|error| wrong(format!("`{file}`: {error}")))?;
        parse(&pem).map_err(|error| wrong(format!("`{file}`: {error}")))
    }
}

/// The one crypto provider; a second install is the first one's doing.
#[cfg(any(feature = "s3", feature = "azure", feature = "gcs", feature = "https"))]
fn install_crypto() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

#[cfg(feature = "https")]
impl StoreOptions {
    /// A client for web addresses, with what is said of the network here.
    pub(in super::super) fn web_client(&self) -> Result<reqwest::ClientBuilder, OptionFault> {
        install_crypto();
        let builder =
            reqwest::Client::builder().connect_timeout(self.connect_timeout()).read_timeout(self.read_timeout());
        let certificates = self.certificates(reqwest::Certificate::from_pem_bundle)?;
        let builder = certificates.into_iter().fold(builder, reqwest::ClientBuilder::add_root_certificate);
        let Some(proxy) = self.get("proxy_url") else { return Ok(builder) };
        let wrong =
            |error: reqwest::Error| OptionFault::Value { key: "proxy_url".to_owned(), problem: error.to_string() };
        Ok(builder.proxy(reqwest::Proxy::all(proxy).map_err(wrong)?))
    }
}

#[cfg(any(feature = "s3", feature = "azure", feature = "gcs"))]
mod clouds {
    use std::sync::Arc;
    use std::time::Duration;

    use object_store::{BackoffConfig, Certificate, ClientOptions, ObjectStore, RetryConfig};

    use super::super::silence::Watched;
    use super::{BucketUrl, OptionFault, StoreOptions};

    type Store = Arc<dyn ObjectStore>;

    fn environment(name: &str) -> Option<String> {
        std::env::var(name).ok().filter(|value| !value.is_empty())
    }

    fn client_fault(url: &BucketUrl, error: &object_store::Error) -> OptionFault {
        OptionFault::Client { url: url.to_string(), problem: error.to_string() }
    }

    /// An address without TLS has to be meant; the client would only say, and
    /// for as long as patience lasts, that it cannot ask there.
    #[cfg(any(feature = "s3", feature = "azure"))]
    fn meant(options: &StoreOptions, endpoint: Option<&str>) -> Result<(), OptionFault> {
        let plain = |address: &&str| address.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("http://"));
        match endpoint.filter(plain) {
            Some(endpoint) if !options.is("allow_http") => {
                Err(OptionFault::WithoutTls { endpoint: endpoint.to_owned() })
            }
            _ => Ok(()),
        }
    }

    fn client(options: &StoreOptions) -> Result<ClientOptions, OptionFault> {
        super::install_crypto();
        let mut client = ClientOptions::new()
            .with_timeout_disabled()
            .with_connect_timeout(options.connect_timeout())
            .with_read_timeout(options.read_timeout())
            .with_allow_http(options.is("allow_http"));
        for certificate in options.certificates(Certificate::from_pem_bundle)? {
            client = client.with_root_certificate(certificate);
        }
        if let Some(proxy) = options.get("proxy_url") {
            client = client.with_proxy_url(proxy);
        }
        Ok(client)
    }

    /// Short: what lasts longer is our own patience's to ride out, which signs
    /// each request anew.
    fn retry() -> RetryConfig {
        let backoff =
            BackoffConfig { init_backoff: Duration::from_millis(100), max_backoff: Duration::from_secs(5), base: 3.0 };
        RetryConfig { backoff, max_retries: 4, retry_timeout: Duration::from_secs(60) }
    }

    /// An address at which nothing ever answered is given up on after this.
    const SILENT: Duration = Duration::from_secs(10);

    fn watched(options: &StoreOptions, hint: &'static str) -> Watched {
        // Before all patience is gone, so that this is what is said.
        Watched { read_timeout: options.read_timeout(), after: SILENT.min(options.patience().total / 2), hint }
    }

    #[cfg(feature = "s3")]
    const S3_HINT: &str = "is that the store? its address is the option `endpoint` (--store-option endpoint=URL), or \
                           AWS_ENDPOINT_URL, or the profile's endpoint_url, or what AWS has for the region";
    #[cfg(feature = "azure")]
    const AZURE_HINT: &str = "is that the store? its address is the option `endpoint` (--store-option endpoint=URL), or \
                              AZURE_STORAGE_ENDPOINT, or what Azure has for the account";
    #[cfg(feature = "gcs")]
    const GOOGLE_HINT: &str = "is there a way to it? a proxy is named by --store-option proxy_url=URL";

    #[cfg(feature = "s3")]
    pub(super) fn s3(options: &StoreOptions, url: &BucketUrl) -> Result<Store, OptionFault> {
        use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey as Key, Checksum};

        let profile = profile::read(options.get("profile"))?;
        let from_file = |key: &str| profile.get(key).cloned();
        let region = options.get("region").map(str::to_owned);
        let region = region.or_else(|| environment("AWS_REGION")).or_else(|| environment("AWS_DEFAULT_REGION"));
        let endpoint = options.get("endpoint").map(str::to_owned);
        let endpoint =
            endpoint.or_else(|| environment("AWS_ENDPOINT_URL_S3")).or_else(|| environment("AWS_ENDPOINT_URL"));
        let endpoint = endpoint.or_else(|| from_file("endpoint_url"));
        meant(options, endpoint.as_deref())?;
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(&url.bucket)
            .with_region(region.or_else(|| from_file("region")).unwrap_or_else(|| "us-east-1".to_owned()))
            .with_client_options(client(options)?)
            .with_http_connector(watched(options, S3_HINT))
            .with_retry(retry())
            .with_virtual_hosted_style_request(options.get("path_style") == Some("false"))
            // Its answer is searched for words that keys may hold.
            .with_disable_bulk_delete(true);
        if let Some(endpoint) = endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        match options.get("checksum") {
            Some("crc64nvme") => builder = builder.with_checksum_algorithm(Checksum::CRC64NVME),
            Some("none") => {}
            _ => builder = builder.with_checksum_algorithm(Checksum::SHA256),
        }
        if let Some(key) = options.get("sse_kms_key_id") {
            builder = builder.with_sse_kms_encryption(key);
        }
        // In the order of the AWS tools: keys in the environment, a token of a
        // web identity, the container's, the file.
        let named = options.get("profile").is_some();
        let keys = (environment("AWS_ACCESS_KEY_ID"), environment("AWS_SECRET_ACCESS_KEY"));
        let filed = (from_file("aws_access_key_id"), from_file("aws_secret_access_key"));
        if options.is("anonymous") {
            builder = builder.with_skip_signature(true);
        } else if let ((Some(id), Some(secret)), false) = (keys, named) {
            builder = builder.with_access_key_id(id).with_secret_access_key(secret);
            if let Some(token) = environment("AWS_SESSION_TOKEN") {
                builder = builder.with_token(token);
            }
        } else if let (Some(file), Some(role), false) =
            (environment("AWS_WEB_IDENTITY_TOKEN_FILE"), environment("AWS_ROLE_ARN"), named)
        {
            builder = builder.with_config(Key::WebIdentityTokenFile, file).with_config(Key::RoleArn, role);
            if let Some(session) = environment("AWS_ROLE_SESSION_NAME") {
                builder = builder.with_config(Key::RoleSessionName, session);
            }
        } else if let (Some(path), false) = (environment("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"), named) {
            builder = builder.with_config(Key::ContainerCredentialsRelativeUri, path);
        } else if let (Some(address), Some(token), false) = (
            environment("AWS_CONTAINER_CREDENTIALS_FULL_URI"),
            environment("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"),
            named,
        ) {
            builder = builder
                .with_config(Key::ContainerCredentialsFullUri, address)
                .with_config(Key::ContainerAuthorizationTokenFile, token);
        } else if let (Some(id), Some(secret)) = filed {
            builder = builder.with_access_key_id(id).with_secret_access_key(secret);
            if let Some(token) = from_file("aws_session_token") {
                builder = builder.with_token(token);
            }
        } else if !options.is("instance_credentials") {
            let hint = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or fill ~/.aws/credentials (AWS_PROFILE, option \
                        `profile`); on a cloud machine set the option instance_credentials=true; for a public bucket \
                        anonymous=true";
            return Err(OptionFault::NoCredentials { url: url.to_string(), hint });
        }
        Ok(Arc::new(builder.build().map_err(|error| client_fault(url, &error))?))
    }

    #[cfg(feature = "s3")]
    mod profile {
        use std::collections::BTreeMap;
        use std::path::PathBuf;

        use ini::Ini;

        use super::{OptionFault, environment};

        /// What the AWS files say of a profile; the credentials file wins.
        pub(super) fn read(named: Option<&str>) -> Result<BTreeMap<String, String>, OptionFault> {
            let home = environment("HOME").or_else(|| environment("USERPROFILE")).map(PathBuf::from);
            let file = |variable: &str, name: &str| {
                environment(variable)
                    .map(PathBuf::from)
                    .or_else(|| home.as_ref().map(|home| home.join(".aws").join(name)))
            };
            let asked = named.map(str::to_owned).or_else(|| environment("AWS_PROFILE"));
            let profile = asked.clone().unwrap_or_else(|| "default".to_owned());
            let section = if profile == "default" { profile.clone() } else { format!("profile {profile}") };
            let mut found = BTreeMap::new();
            let mut known = false;
            let places = [
                (file("AWS_CONFIG_FILE", "config"), section),
                (file("AWS_SHARED_CREDENTIALS_FILE", "credentials"), profile.clone()),
            ];
            for (path, section) in places {
                let Some(path) = path.filter(|path| path.is_file()) else { continue };
                let wrong = |error: ini::Error| OptionFault::Value {
                    key: "profile".to_owned(),
                    problem: format!("`{}`: {error}", path.display()),
                };
                let options = ini::ParseOption { enabled_escape: false, ..ini::ParseOption::default() };
                let parsed = Ini::load_from_file_opt(&path, options).map_err(wrong)?;
                if let Some(members) = parsed.section(Some(section.as_str())) {
                    known = true;
                    found.extend(members.iter().map(|(key, value)| (key.to_owned(), value.to_owned())));
                }
            }
            match asked {
                Some(profile) if !known => Err(OptionFault::Value {
                    key: "profile".to_owned(),
                    problem: format!("there is no profile `{profile}` in the AWS files"),
                }),
                _ => Ok(found),
            }
        }
    }

    #[cfg(feature = "azure")]
    pub(super) fn azure(options: &StoreOptions, url: &BucketUrl) -> Result<Store, OptionFault> {
        use object_store::azure::MicrosoftAzureBuilder;

        let known = [
            "AZURE_STORAGE_ACCOUNT_KEY",
            "AZURE_STORAGE_ACCESS_KEY",
            "AZURE_STORAGE_SAS_KEY",
            "AZURE_STORAGE_SAS_TOKEN",
            "AZURE_STORAGE_TOKEN",
            "AZURE_CLIENT_SECRET",
            "AZURE_STORAGE_CLIENT_SECRET",
            "AZURE_FEDERATED_TOKEN_FILE",
        ];
        let signed = known.iter().any(|name| environment(name).is_some());
        if !(signed || options.is("anonymous") || options.is("emulator") || options.is("instance_credentials")) {
            let hint = "set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, or AZURE_STORAGE_SAS_TOKEN, or a \
                        client's id and secret; on a cloud machine set the option instance_credentials=true";
            return Err(OptionFault::NoCredentials { url: url.to_string(), hint });
        }
        if !options.is("emulator") {
            let endpoint = options.get("endpoint").map(str::to_owned);
            meant(options, endpoint.or_else(|| environment("AZURE_STORAGE_ENDPOINT")).as_deref())?;
        }
        let mut builder = MicrosoftAzureBuilder::from_env()
            .with_container_name(&url.bucket)
            .with_client_options(client(options)?)
            .with_http_connector(watched(options, AZURE_HINT))
            .with_retry(retry());
        if options.is("emulator") {
            builder = builder.with_use_emulator(true).with_allow_http(true);
        }
        if options.is("anonymous") {
            builder = builder.with_skip_signature(true);
        }
        if let Some(account) = options.get("account") {
            builder = builder.with_account(account);
        }
        if let Some(endpoint) = options.get("endpoint") {
            builder = builder.with_endpoint(endpoint.to_owned());
        }
        Ok(Arc::new(builder.build().map_err(|error| client_fault(url, &error))?))
    }

    #[cfg(feature = "gcs")]
    pub(super) fn gcs(options: &StoreOptions, url: &BucketUrl) -> Result<Store, OptionFault> {
        use object_store::gcp::GoogleCloudStorageBuilder;

        let known = [
            "GOOGLE_SERVICE_ACCOUNT",
            "GOOGLE_SERVICE_ACCOUNT_PATH",
            "GOOGLE_SERVICE_ACCOUNT_KEY",
            "GOOGLE_APPLICATION_CREDENTIALS",
        ];
        let signed = known.iter().any(|name| environment(name).is_some());
        if !(signed || options.is("anonymous") || options.is("instance_credentials")) {
            let hint = "set GOOGLE_APPLICATION_CREDENTIALS or GOOGLE_SERVICE_ACCOUNT to a credentials file; on a cloud \
                        machine set the option instance_credentials=true; for a public bucket anonymous=true";
            return Err(OptionFault::NoCredentials { url: url.to_string(), hint });
        }
        let mut builder = GoogleCloudStorageBuilder::from_env()
            .with_bucket_name(&url.bucket)
            .with_client_options(client(options)?)
            .with_http_connector(watched(options, GOOGLE_HINT))
            .with_retry(retry());
        if options.is("anonymous") {
            builder = builder.with_skip_signature(true);
        }
        Ok(Arc::new(builder.build().map_err(|error| client_fault(url, &error))?))
    }
}
