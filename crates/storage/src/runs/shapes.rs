use runpack_core::model::{DataShapeRecord, NamespaceId, SchemaId, TenantId};

use super::{ReadError, WriteError};

/// Records that [`ShapeStore::shapes`] answers at most, whatever was asked.
pub const SHAPES_PAGE_MAX: usize = 1_000;

/// Bytes of the records that [`ShapeStore::shapes`] answers, in canonical form;
/// a page has at least one record, however large that is.
pub const SHAPES_PAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Keeps data shapes, by tenant, namespace, id and version.
///
/// A shape never changes and is never removed. Whether its schema is one, and
/// who may register it, is asked before.
pub trait ShapeStore: Send + Sync {
    /// Keeps `record`, if fewer than `entries_max` are kept for its tenant and
    /// namespace and none under its id and version. Both are looked at when it
    /// is written: of two that come at once, one is told.
    ///
    /// The record was admitted by [`runpack_core::read`].
    ///
    /// # Errors
    /// See [`WriteError`].
    fn register(&self, record: &DataShapeRecord, entries_max: Option<u64>) -> Result<Registered, WriteError>;

    /// The record of that key.
    ///
    /// # Errors
    /// See [`ReadError`].
    fn shape(&self, key: &ShapeKey) -> Result<Option<DataShapeRecord>, ReadError>;

    /// Records of a tenant and namespace, ordered by the bytes of id and then
    /// version: from the beginning, or after the id and version that an earlier
    /// page ended with, whether or not there is such a record. At most
    /// [`SHAPES_PAGE_MAX`] and about [`SHAPES_PAGE_BYTES_MAX`] come at once.
    ///
    /// # Errors
    /// See [`ReadError`].
    fn shapes(
        &self,
        tenant: TenantId,
        namespace: NamespaceId,
        after: Option<(&SchemaId, &str)>,
        limit: usize,
    ) -> Result<ShapePage, ReadError>;

    /// How many are kept for a tenant and namespace.
    ///
    /// # Errors
    /// See [`ReadError`].
    fn shape_count(&self, tenant: TenantId, namespace: NamespaceId) -> Result<u64, ReadError>;
}

/// What names a data shape.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ShapeKey {
    /// Whose.
    pub tenant_id: TenantId,
    /// In which namespace.
    pub namespace_id: NamespaceId,
    /// Which.
    pub schema_id: SchemaId,
    /// Which of those.
    pub version: String,
}

impl ShapeKey {
    /// The key of this record.
    pub fn of(record: &DataShapeRecord) -> Self {
        Self {
            tenant_id: record.tenant_id,
            namespace_id: record.namespace_id,
            schema_id: record.schema_id.clone(),
            version: record.version.clone(),
        }
    }
}

/// What became of a registration. On all but `New` nothing was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Registered {
    /// It is kept now.
    New,
    /// There is a record of that id and version already, with whatever in it.
    Conflict,
    /// The tenant has as many in the namespace as were allowed, or more. Said
    /// also of a record that is there already.
    Full,
}

/// Some records of a tenant and namespace.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ShapePage {
    /// In order.
    pub records: Vec<DataShapeRecord>,
    /// Whether there are more after these.
    pub more: bool,
}

/// A page that is being filled.
pub(super) struct Filling {
    pub(super) page: ShapePage,
    limit: usize,
    bytes: usize,
}

impl Filling {
    pub(super) fn new(limit: usize) -> Self {
        Self { page: ShapePage::default(), limit: limit.min(SHAPES_PAGE_MAX), bytes: 0 }
    }

    /// Records that can be needed to fill it, and one to know whether there are
    /// more.
    #[cfg(feature = "sqlite")]
    pub(super) fn wanted(&self) -> usize {
        self.limit + 1
    }

    /// Whether one more of so many bytes fits; if not, there are more.
    pub(super) fn has_room(&mut self, bytes: usize) -> bool {
        let taken = self.page.records.len();
        self.bytes = self.bytes.saturating_add(bytes);
        let fits = taken < self.limit && (taken == 0 || self.bytes <= SHAPES_PAGE_BYTES_MAX);
        self.page.more |= !fits;
        fits
    }
}
