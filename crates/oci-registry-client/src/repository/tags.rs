//! The repository's tags (distribution-spec, "Listing Tags").

use futures_util::stream::BoxStream;
use http::Method;
use oci_ref::{Cursor, Page};
use oci_spec_types::{ErrorCode, Tag};
use serde::Deserialize;

use super::Repository;
use crate::Result;
use crate::page::{self, PageRequest};

impl Repository {
    /// All tags, in pages of `page_size`, after the tag `last` if there is one. The order is the registry's: lexical, if
    /// it follows the specification. The stream ends after an error.
    pub fn tags_stream(
        &self,
        last: Option<&Tag>,
        page_size: usize,
    ) -> BoxStream<'static, Result<Tag>> {
        let (repository, page_size) = (self.clone(), page_size.max(1));
        page::stream(last.map(|tag| Cursor::After(tag.to_string())), move |after| {
            let repository = repository.clone();
            async move { repository.list_tags(after.as_ref(), page_size).await }
        })
    }

    pub(super) async fn list_tags(
        &self,
        after: Option<&Cursor>,
        limit: usize,
    ) -> Result<Page<Tag>> {
        #[derive(Deserialize)]
        struct Tags {
            #[serde(default)]
            tags: Option<Vec<String>>,
        }
        let page = PageRequest { first: self.url("tags/list"), after, limit };
        let about = self.about("tags", ErrorCode::NameUnknown);
        let request = |url| self.reading(Method::GET, url, about.clone());
        page::read(self.registry(), page, request, |body: Tags| {
            // Some registries list digests among the tags.
            let names = body.tags.unwrap_or_default();
            names.into_iter().map(|name| (name.parse().ok(), name)).collect()
        })
        .await
    }
}
