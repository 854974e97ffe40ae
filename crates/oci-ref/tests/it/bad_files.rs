//! Files of every form, truncated, lost, too long, or with each other's content: what comes out is
//! the image or an error that names the thing, and a destination keeps what it had.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use oci_ref::suite::content::{image, noise, tag};
use oci_ref::{
    Compression, CopyOptions, Directory, DockerArchive, DockerArchiveOptions, DockerArchiveWriter,
    ImageBuilder, LayerContent, Layout, Manifest, Memory, OciArchive, Result, Source, Store,
    Target, copy,
};
use oci_spec_types::Digest;
use tempfile::TempDir;

use crate::archive::file;
use crate::support::files;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Layout,
    OciArchive,
    Directory,
    DockerArchive,
    /// As Docker writes it since version 25: an OCI layout with a `manifest.json`.
    NewDockerArchive,
}

const FORMS: [Form; 5] =
    [Form::Layout, Form::OciArchive, Form::Directory, Form::DockerArchive, Form::NewDockerArchive];

/// Files by their paths.
type Files = Vec<(String, Vec<u8>)>;

fn read(root: &Path) -> Files {
    let all = files(root).into_iter();
    all.map(|path| (path.clone(), fs::read(root.join(path)).unwrap())).collect()
}

/// The files of an image, and its manifest.
async fn parts(form: Form) -> (Files, Manifest) {
    let mut builder = ImageBuilder::for_platform(&"linux/amd64".parse().unwrap());
    for (number, compression) in [Compression::None, Compression::Gzip].into_iter().enumerate() {
        let content = noise(&format!("layer {number}"), 3000);
        builder = builder.layer(LayerContent::tar(content, compression).unwrap());
    }
    let built = builder.build().unwrap();
    let manifest = built.manifest().clone();
    let blobs = built.manifest().blobs().map(|blob| blob.digest.encoded().to_owned());
    let blobs: Vec<String> = blobs.map(|hex| format!("blobs/sha256/{hex}")).collect();
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("it");
    let tags = [tag("t")];
    let found = match form {
        Form::Layout | Form::OciArchive | Form::NewDockerArchive => {
            built.write(&Layout::create(&path).await.unwrap(), &tags).await.unwrap();
            let mut found = read(&path);
            if form == Form::NewDockerArchive {
                let layers = blobs[1..].join("\",\"");
                let list = format!(
                    r#"[{{"Config":"{}","RepoTags":["app:t"],"Layers":["{layers}"]}}]"#,
                    blobs[0]
                );
                found.push(("manifest.json".into(), list.into()));
            }
            found
        }
        Form::Directory => {
            built.write(&Directory::create(&path).await.unwrap(), &[]).await.unwrap();
            read(&path)
        }
        Form::DockerArchive => {
            let repository = Some("app.example/app".parse().unwrap());
            let options = DockerArchiveOptions { repository, ..Default::default() };
            let writer = DockerArchiveWriter::create(&path, options).await.unwrap();
            built.write(&writer, &tags).await.unwrap();
            writer.finish().await.unwrap();
            let mut archive = tar::Archive::new(fs::File::open(&path).unwrap());
            let entries = archive.entries().unwrap().map(|entry| {
                let mut entry = entry.unwrap();
                let name = entry.path().unwrap().to_str().unwrap().to_owned();
                let mut content = Vec::new();
                std::io::Read::read_to_end(&mut entry, &mut content).unwrap();
                (name, content)
            });
            entries.collect()
        }
    };
    (found, manifest)
}

/// Opens files as a source.
async fn open(form: Form, files: &[(String, Vec<u8>)], at: &Path) -> Result<Arc<dyn Source>> {
    let pack = || {
        let packed: Vec<u8> = files.iter().flat_map(|(name, bytes)| file(name, bytes)).collect();
        fs::write(at, packed).unwrap();
    };
    let spread = || {
        for (name, content) in files {
            let path = at.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
    };
    Ok(match form {
        Form::Layout => {
            spread();
            Arc::new(Layout::open(at).await?)
        }
        Form::Directory => {
            spread();
            Arc::new(Directory::open(at).await?)
        }
        Form::OciArchive => {
            pack();
            Arc::new(OciArchive::open(at).await?)
        }
        Form::DockerArchive | Form::NewDockerArchive => {
            pack();
            Arc::new(DockerArchive::open(at).await?)
        }
    })
}

/// The changes that one of the files may suffer.
fn changes(files: &[(String, Vec<u8>)], position: usize) -> Vec<(String, Files)> {
    let name = &files[position].0;
    let with = |what: &str, content: &[u8]| {
        let mut changed = files.to_vec();
        changed[position].1 = content.to_vec();
        (format!("{name} {what}"), changed)
    };
    let whole = &files[position].1;
    let mut all = vec![
        with("empty", b""),
        with("cut in the middle", &whole[..whole.len() / 2]),
        with("without its last byte", &whole[..whole.len() - 1]),
        with("with a byte more", &[whole, &b"x"[..]].concat()),
    ];
    for (other, (path, content)) in files.iter().enumerate() {
        if other != position {
            all.push(with(&format!("like {path}"), content));
        }
    }
    let mut without = files.to_vec();
    without.remove(position);
    all.push((format!("{name} gone"), without));
    all
}

/// Destinations that have something under the tag already.
async fn destinations(at: &Path) -> Vec<Arc<dyn Store>> {
    let old = image("there before").unwrap();
    let layout = Layout::create(at.join("layout")).await.unwrap();
    let directory = Directory::create(at.join("dir")).await.unwrap();
    let stores: Vec<Arc<dyn Store>> =
        vec![Arc::new(Memory::new()), Arc::new(layout), Arc::new(directory)];
    for store in &stores {
        old.put(&**store, &[tag("t")]).await.unwrap();
    }
    stores
}

// moby/moby#47065; foundriesio/aktualizr-lite#241
// covers: C16
#[tokio::test]
async fn whatever_becomes_of_a_file_the_image_comes_out_or_an_error_that_names_it() {
    let old = image("there before").unwrap().manifest;
    for form in FORMS {
        let (whole, manifest) = parts(form).await;
        let digests: Vec<&Digest> =
            manifest.blobs().map(|blob| &blob.digest).chain([manifest.digest()]).collect();
        let (mut failed, mut done) = (0, 0);
        let all = (0..whole.len()).flat_map(|position| changes(&whole, position));
        for (what, changed) in all.chain([("nothing".to_owned(), whole.clone())]) {
            let directory = TempDir::new().unwrap();
            let source = open(form, &changed, &directory.path().join("source")).await;
            for to in destinations(directory.path()).await {
                let copied = match &source {
                    Ok(source) => {
                        let tags = vec![tag("t")];
                        let options = CopyOptions { tags, ..CopyOptions::default() };
                        copy(source.clone(), &tag("t").into(), to.clone(), options).await
                    }
                    Err(error) => Err(oci_ref::Error::new(error.kind().clone(), error.chain())),
                };
                let now = to.manifest(&Target::Tag(tag("t"))).await.unwrap();
                match copied {
                    Ok(copied) => {
                        done += 1;
                        assert_eq!(copied.descriptor, *now.descriptor(), "{form:?}: {what}");
                        // Of a docker-archive the same image may come in another form.
                        let (found, expected) = (now.image().unwrap(), manifest.image().unwrap());
                        assert_eq!(found.config.digest, expected.config.digest, "{form:?}: {what}");
                        assert_eq!(found.layers.len(), expected.layers.len(), "{form:?}: {what}");
                        if !matches!(form, Form::DockerArchive | Form::NewDockerArchive) {
                            assert_eq!(now, manifest, "{form:?}: {what}");
                        }
                    }
                    Err(error) => {
                        failed += 1;
                        assert_eq!(now, old, "{form:?}: {what}: {}", error.chain());
                        let text = error.chain();
                        let path = what.split_once(' ').map_or("", |(path, _)| path);
                        let file = Path::new(path).file_stem().unwrap().to_str().unwrap();
                        let names = |name: &str| text.contains(name);
                        let by_digest = digests.iter().any(|digest| names(digest.encoded()));
                        assert!(
                            names(file) || by_digest || names("index.json"),
                            "{form:?}: {what}: {text}"
                        );
                    }
                }
            }
        }
        assert!(done >= 3 && failed > 50, "{form:?}: {done} done, {failed} failed");
    }
}
