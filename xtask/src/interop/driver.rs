//! What our client does at any registry: all of it, compared with what is expected.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt;
use oci_ref::{
    ArtifactBuilder, Blob, ByteRange, CopyOptions, LayerContent, Manifest, Memory, Mounted, Source,
    Store, Target, copy,
};
use oci_registry_client::{
    Client, ClientBuilder, Credentials, Repository, RetryPolicy, StaticCredentials, UploadMode,
};
use oci_spec_types::{Algorithm, Descriptor, Digest, Host, MediaType, Name, Tag};

use crate::process::{Result, say};

/// A registry that runs, and who we are there.
pub(crate) struct Registry {
    pub(crate) host: String,
    pub(crate) user: Option<(String, String)>,
}

struct Driver {
    registry: Registry,
    name: Name,
    /// What is pushed first.
    image: Manifest,
    content: Memory,
}

const LARGE: usize = 6 << 20;

fn kind() -> MediaType {
    MediaType::from_static("application/vnd.example.interop")
}

/// Bytes that no compression and no other run has.
fn noise(seed: u64, length: usize) -> Bytes {
    let mut state = seed | 1;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..length).map(next).collect()
}

fn large() -> Bytes {
    noise(7, LARGE)
}

/// Does everything, and says what it found.
pub(crate) fn run(registry: Registry) -> Result {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("starting the async runtime: {error}"))?;
    runtime.block_on(async {
        let driver = Driver::new(registry).await.map_err(|error| error.chain())?;
        let mut failed = Vec::new();
        macro_rules! steps {
            ($($step:ident),* $(,)?) => {$(
                match tokio::time::timeout(Duration::from_secs(60), driver.$step()).await {
                    Ok(Ok(found)) => say(&format!("   {}: {found}", stringify!($step))),
                    Ok(Err(error)) => failed.push(format!("{}: {error}", stringify!($step))),
                    Err(_) => failed.push(format!("{}: it takes too long", stringify!($step))),
                }
            )*};
        }
        steps! {
            ping, push_and_pull, push_again, tags, chunks, resumed_upload, cancelled_upload, mount, ranges, download,
            referrers, missing, catalog, delete,
        }
        if failed.is_empty() { Ok(()) } else { Err(failed.join("\n")) }
    })
}

/// An error as a step gives it.
struct Failed(String);

impl From<oci_ref::Error> for Failed {
    fn from(error: oci_ref::Error) -> Self {
        Self(error.chain())
    }
}

impl From<oci_registry_client::Error> for Failed {
    fn from(error: oci_registry_client::Error) -> Self {
        oci_ref::Error::from(error).into()
    }
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

type Step<T = &'static str> = std::result::Result<T, Failed>;

fn expect(holds: bool, what: &str) -> Step<()> {
    if holds { Ok(()) } else { Err(Failed(what.to_owned())) }
}

fn tag(tag: &str) -> Step<Tag> {
    tag.parse().map_err(|error| Failed(format!("{tag}: {error}")))
}

impl Driver {
    async fn new(registry: Registry) -> oci_ref::Result<Self> {
        let content = Memory::new();
        let image = ArtifactBuilder::new(kind())
            .layer(LayerContent::blob(kind(), large()))
            .layer(LayerContent::blob(kind(), "small"))
            .write(&content, &[])
            .await?;
        // A run of its own: registries keep what they have.
        let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let number = time.unwrap_or_default().as_nanos();
        let name = format!("interop/run-{number}").parse().map_err(|_| {
            oci_ref::Error::new(oci_ref::ErrorKind::Internal, "a name that is made of a number")
        })?;
        Ok(Self { registry, name, image, content })
    }

    fn builder(&self) -> Step<ClientBuilder> {
        let mut credentials = StaticCredentials::new();
        if let Some((user, password)) = &self.registry.user {
            credentials = credentials.with(self.host()?, Credentials::basic(user, password));
        }
        Ok(Client::builder().credentials(credentials).retry(RetryPolicy::default()))
    }

    fn host(&self) -> Step<Host> {
        let host = &self.registry.host;
        host.parse().map_err(|error| Failed(format!("{host}: {error}")))
    }

    fn with(&self, builder: ClientBuilder) -> Step<Repository> {
        Ok(builder.build()?.registry(&self.host()?)?.repository(self.name.clone()))
    }

    fn repository(&self) -> Step<Repository> {
        self.with(self.builder()?)
    }

    fn sibling(&self) -> Step<Repository> {
        let name = format!("{}-other", self.name).parse();
        Ok(self.repository()?.sibling(name.map_err(|_| Failed("the sibling's name".into()))?))
    }

    async fn ping(&self) -> Step {
        self.repository()?.registry().ping().await?;
        Ok("ok")
    }

    async fn push(&self, to: &Repository, names: &[&str]) -> Step<oci_ref::Copied> {
        let tags = names.iter().map(|name| tag(name)).collect::<Step<_>>()?;
        let options = CopyOptions { tags, ..CopyOptions::default() };
        let target = Target::Digest(self.image.digest().clone());
        let from = Arc::new(self.content.clone());
        Ok(copy(from, &target, Arc::new(to.clone()), options).await?)
    }

    async fn push_and_pull(&self) -> Step {
        let repository = self.repository()?;
        self.push(&repository, &["v1", "v2", "v3", "v4", "v5"]).await?;
        let back = Arc::new(Memory::new());
        for target in [Target::Tag(tag("v3")?), Target::Digest(self.image.digest().clone())] {
            let found = repository.resolve(&target).await?;
            expect(found.digest == *self.image.digest(), "it resolves to something else")?;
            copy(Arc::new(repository.clone()), &target, back.clone(), CopyOptions::default())
                .await?;
        }
        let manifest = back.manifest(&Target::Digest(self.image.digest().clone())).await?;
        expect(manifest.bytes() == self.image.bytes(), "the manifest came back otherwise")?;
        let layer = Descriptor::of(kind(), &large());
        let read = Blob::open(&*back, &layer).await?.into_bytes(LARGE as u64).await?;
        expect(read == large(), "the layer came back otherwise")?;
        Ok("byte for byte")
    }

    async fn push_again(&self) -> Step {
        let copied = self.push(&self.repository()?, &["v1"]).await?;
        expect(copied.blobs == 0 && copied.manifests == 0, "something was sent again")?;
        Ok("nothing is sent")
    }

    async fn tags(&self) -> Step {
        let found: Vec<_> = self.repository()?.tags_stream(None, 2).try_collect().await?;
        let mut names: Vec<_> = found.iter().map(ToString::to_string).collect();
        names.sort_unstable();
        expect(names == ["v1", "v2", "v3", "v4", "v5"], &format!("found {names:?}"))?;
        let after: Vec<_> =
            self.repository()?.tags_stream(Some(&tag("v3")?), 2).try_collect().await?;
        expect(!after.is_empty(), "nothing comes after v3")?;
        Ok("five, in pages of two")
    }

    async fn is_there(&self, repository: &Repository, content: &Bytes) -> Step<()> {
        let found = repository.blob_size(&Digest::sha256(content)).await?;
        expect(found == Some(content.len() as u64), &format!("the blob's size is {found:?}"))
    }

    async fn chunks(&self) -> Step {
        let chunked = self.builder()?.upload_mode(UploadMode::Chunked).chunk_size(1 << 20);
        let (repository, content) = (self.with(chunked)?, noise(11, LARGE + 3));
        repository.put_blob(&Descriptor::of(kind(), &content), &content).await?;
        self.is_there(&repository, &content).await?;
        Ok("six of a MiB, and a last one")
    }

    async fn resumed_upload(&self) -> Step {
        let content = noise(13, LARGE);
        let mut staged = self.repository()?.stage(Algorithm::Sha256).await?;
        staged.append(content.slice(..5_000_000)).await?;
        let name = staged.suspend().await?;
        // Another client, as after a restart.
        let repository = self.repository()?;
        let mut staged = repository.resume(&name).await?;
        let offset = usize::try_from(staged.offset()).unwrap_or(usize::MAX);
        expect(offset == 5_000_000, &format!("it stands at {offset}"))?;
        staged.append(content.slice(offset..)).await?;
        staged.commit(&Digest::sha256(&content)).await?;
        self.is_there(&repository, &content).await?;
        Ok("by another client, where the first one stopped")
    }

    async fn cancelled_upload(&self) -> Step {
        let mut staged = self.repository()?.stage(Algorithm::Sha256).await?;
        staged.append(noise(17, LARGE)).await?;
        let name = staged.suspend().await?;
        let repository = self.repository()?;
        repository.resume(&name).await?.cancel().await?;
        match repository.upload_offset(&name).await {
            Err(error) if error.is_not_found() => Ok("gone"),
            Err(error) => Err(error.into()),
            Ok(_) => Ok("the registry keeps what was cancelled"),
        }
    }

    async fn mount(&self) -> Step {
        let (to, layer) = (self.sibling()?, Descriptor::of(kind(), &large()));
        let how = match to.mount(&layer, Some(&self.name)).await? {
            Mounted::Done => "mounted",
            Mounted::Upload(staged) => {
                staged.put(&layer, &large()).await?;
                "not mounted; sent through the upload that was opened"
            }
            Mounted::No => {
                to.put_blob(&layer, &large()).await?;
                "refused; sent"
            }
        };
        self.is_there(&to, &large()).await?;
        Ok(how)
    }

    async fn ranges(&self) -> Step {
        let (repository, digest) = (self.repository()?, Digest::sha256(&large()));
        for range in [
            ByteRange::Inclusive(0, 0),
            ByteRange::Inclusive(1000, 4_000_000),
            ByteRange::From(LARGE as u64 - 5),
            ByteRange::Last(77),
        ] {
            let read = Source::blob(&repository, &digest, range).await?;
            let wanted = read.range.start as usize..read.range.end as usize;
            let body: Vec<Bytes> = read.body.try_collect().await?;
            expect(body.concat() == large()[wanted], &format!("{range:?} gave other bytes"))?;
        }
        let parallel = self.with(self.builder()?.parallel_ranges(4, 1 << 20))?;
        let layer = Descriptor::of(kind(), &large());
        let read = Blob::open(&parallel, &layer).await?.into_bytes(LARGE as u64).await?;
        expect(read == large(), "read in parallel it is otherwise")?;
        Ok("as asked for, and in parallel")
    }

    async fn download(&self) -> Step {
        let failed = |error: std::io::Error| Failed(format!("a scratch file: {error}"));
        let directory = tempfile::tempdir().map_err(failed)?;
        let (path, layer) = (directory.path().join("blob"), Descriptor::of(kind(), &large()));
        let digits: String = layer.digest.encoded().chars().take(12).collect();
        let part = directory.path().join(format!("blob.{digits}.part"));
        std::fs::write(part, &large()[..4_000_000]).map_err(failed)?;
        let received = self.repository()?.download(&layer, &path).await?;
        expect(std::fs::read(&path).map_err(failed)? == large(), "the file is otherwise")?;
        match received {
            received if received == LARGE as u64 - 4_000_000 => Ok("only what was missing"),
            _ => Ok("all of it, although a part was there"),
        }
    }

    async fn referrers(&self) -> Step {
        let (repository, subject) = (self.repository()?, self.image.descriptor());
        let mut notes = Vec::new();
        for text in ["one", "two"] {
            let kind = MediaType::new(format!("application/vnd.example.{text}"))
                .map_err(|error| Failed(error.to_string()))?;
            let note = ArtifactBuilder::new(kind.clone())
                .layer(LayerContent::blob(kind, text))
                .subject(subject.clone());
            notes.push(note.write(&repository, &[]).await?);
        }
        let listed = self.repository()?.predecessors(&subject.digest).await?;
        expect(listed.len() == 2, &format!("{} are listed", listed.len()))?;
        let filter = Some("application/vnd.example.two");
        let found = self.repository()?.referrers(&subject.digest, filter, None, 10).await?.page;
        expect(
            found.items.len() == 1 && found.items[0].digest == *notes[1].digest(),
            &format!("the filter gave {:?}", found.items),
        )?;
        let by_tag = repository.resolve(&Target::Tag(Tag::of_referrers(&subject.digest))).await;
        if let Err(error) = repository.delete_manifest(notes[0].digest()).await {
            expect(error.is_unsupported(), &error.chain())?;
            return Ok("listed; manifests cannot be deleted here");
        }
        let left = self.repository()?.predecessors(&subject.digest).await?;
        expect(left.len() == 1, &format!("{} are left after one was deleted", left.len()))?;
        Ok(if by_tag.is_ok() { "by tag" } else { "by the API" })
    }

    async fn missing(&self) -> Step {
        let (repository, missing) = (self.repository()?, Digest::sha256(b"missing"));
        expect(repository.blob_size(&missing).await?.is_none(), "a blob is there")?;
        let unknown =
            repository.sibling("interop/unknown".parse().map_err(|_| Failed("a name".to_owned()))?);
        for target in [Target::Tag(tag("missing")?), Target::Digest(missing)] {
            for repository in [&repository, &unknown] {
                let found = repository.manifest(&target).await;
                expect(found.is_err_and(|error| error.is_not_found()), "not a typed not found")?;
                let found = repository.resolve(&target).await;
                expect(found.is_err_and(|error| error.is_not_found()), "not a typed not found")?;
            }
        }
        Ok("not found, as a type")
    }

    async fn catalog(&self) -> Step {
        let registry = self.repository()?.registry().clone();
        let mut next = None;
        loop {
            let page = match registry.catalog(next.as_ref(), 100).await {
                Ok(page) => page,
                Err(error) if error.status().is_some() => return Ok("there is none"),
                Err(error) => return Err(error.into()),
            };
            if page.items.contains(&self.name) {
                return Ok("listed");
            }
            match page.next {
                Some(cursor) => next = Some(cursor),
                None => return Err(Failed("the repository is not listed".into())),
            }
        }
    }

    async fn delete(&self) -> Step {
        let repository = self.repository()?;
        let mut tags = "tags and manifests";
        match repository.delete_tag(&tag("v5")?).await {
            Ok(()) => {
                let left = repository.resolve(&Target::Tag(tag("v4")?)).await;
                expect(left.is_ok(), "a tag's deletion took others along")?;
            }
            Err(error)
                if error.is_unsupported() || error.kind() == &oci_ref::ErrorKind::Invalid =>
            {
                tags = "manifests; tags cannot be deleted here";
            }
            Err(error) => {
                let code = error.code().map(ToString::to_string).unwrap_or_default();
                expect(code == "DIGEST_INVALID", &error.chain())?;
                tags = "manifests; tags cannot be deleted here, says a wrong code";
            }
        }
        match repository.delete_manifest(self.image.digest()).await {
            Ok(()) => {}
            Err(error) if error.is_unsupported() => return Ok("nothing can be deleted here"),
            Err(error) => return Err(error.into()),
        }
        let gone = repository.resolve(&Target::Digest(self.image.digest().clone())).await;
        expect(gone.is_err_and(|error| error.is_not_found()), "the manifest is still there")?;
        match repository.delete_blob(&Digest::sha256(&large())).await {
            Ok(()) => Ok(tags),
            Err(error) if error.is_unsupported() => Ok("not blobs"),
            Err(error) => Err(error.into()),
        }
    }
}
