//! Every limit of the box, in one place: what it bounds, and why it has this value.

/// Limits that are the same for every job, part of the engine profile where they can be seen in an
/// output or a fuel count.
pub mod constants {
    /// Bytes of a Wasm page.
    pub const WASM_PAGE_BYTES: u64 = 64 << 10;
    /// Most pages of a 32-bit memory: 4 GiB.
    pub const MEMORY_PAGES_MAX: u64 = 1 << 16;

    /// Largest guest module. The stock guest, which is tract with all its operators, has 10.2 MB.
    pub const MODULE_BYTES_MAX: u64 = 64 << 20;
    /// Most imports: WASI and the kernels together have fewer than fifty names.
    pub const IMPORTS_MAX: u32 = 256;
    /// Most functions, beside the imported ones. The stock guest has 18,781.
    pub const FUNCTIONS_MAX: u32 = 100_000;
    /// Longest function body. Cranelift's time grows faster than the size of one function; the
    /// stock guest's longest has 72,129 bytes.
    pub const FUNCTION_BYTES_MAX: u32 = 1 << 20;
    /// Most locals of one function. Locals are unmetered stack (wasmtime#14075), and a loop puts those that
    /// it changes into place when it begins; no function of the stock guest has more than 148.
    pub const FUNCTION_LOCALS_MAX: u32 = 1_024;
    /// Most locals of all functions together: code that sets them up is made for each.
    pub const LOCALS_MAX: u64 = 2_000_000;
    /// Most targets of one `br_table`. Larger ones are a known way to slow a compiler down.
    pub const BR_TABLE_TARGETS_MAX: u32 = 8_192;
    /// Deepest nesting of blocks; the compiler's recursion and bookkeeping grow with it.
    pub const BLOCK_DEPTH_MAX: u32 = 4_096;
    /// Most globals; a handful is usual.
    pub const GLOBALS_MAX: u32 = 1_000;
    /// Most exports.
    pub const EXPORTS_MAX: u32 = 1_000;
    /// Most types.
    pub const TYPES_MAX: u32 = 10_000;
    /// Most data segments.
    pub const DATA_SEGMENTS_MAX: u32 = 100_000;
    /// Largest memory that a module starts with, in bytes; a guest grows it when it runs, and pays. The host
    /// writes all of it down, once for each guest.
    pub const INITIAL_BYTES_MAX: u64 = 256 << 20;
    /// Most custom sections, which are read over: names, producers, and a dozen of debug information are
    /// usual.
    pub const CUSTOM_SECTIONS_MAX: u32 = 100;
    /// Most element segments; compilers write one.
    pub const ELEMENT_SEGMENTS_MAX: u32 = 1_000;
    /// Most tables: calls by pointer need one. A second would double what an instance allocates for
    /// elements, which are bounded for each table.
    pub const TABLES_MAX: u32 = 1;
    /// Most elements of the one table: an instance allocates 8 bytes for each.
    pub const TABLE_ELEMENTS_MAX: u64 = 100_000;

    /// Violations that a refusal tells, of a module or a manifest: whoever mends so many tries again anyway.
    pub const VIOLATIONS_TOLD: usize = 16;

    /// Native stack of a guest, in bytes. Deep enough that tract's and prost's recursion (limited to
    /// a depth of 100) never come near; a guest that overflows it is not replayable, because frame
    /// sizes differ between compilers, so it is made large and rare.
    pub const WASM_STACK_BYTES: usize = 4 << 20;
    /// Room for host functions below the guest's stack.
    pub const HOST_STACK_BYTES: usize = 1 << 20;

    /// A guest's own fuel between two looks at a job's deadline and at what its memory costs: a fifth of a
    /// millisecond, two at the worst.
    pub const CANCEL_INTERVAL_FUEL: u64 = 1_000_000;

    /// Largest package file.
    pub const PACKAGE_BYTES_MAX: u64 = 2 << 30;
    /// Largest part of a package once unpacked: it has to fit a guest's memory with room to work.
    pub const PART_BYTES_MAX: u64 = 2 << 30;
    /// Most parts of a package.
    pub const PARTS_MAX: usize = 256;
    /// Largest manifest.
    pub const MANIFEST_BYTES_MAX: u64 = 1 << 20;
    /// Longest name of a package, an asset or a golden case.
    pub const NAME_BYTES_MAX: usize = 128;
    /// Largest window that a compressed package may ask its reader to hold: 2^27 bytes, what
    /// `zstd --long` asks for.
    pub const ZSTD_WINDOW_LOG_MAX: u32 = 27;

    /// Shape sets of one model that stay prepared on disk. Each is a whole model image; the one
    /// that was used least recently makes room.
    pub const SHAPE_IMAGES_MAX: usize = 32;

    /// Vectors of one WASI read or write: Linux' own IOV_MAX.
    pub const WASI_VECTORS_MAX: u32 = 1024;
    /// Bytes that a WASI call writes or makes between two looks at a deadline: a write takes no more
    /// of them at once, and randomness comes in such slices. A multiple of the generator's blocks.
    pub const WASI_SLICE_BYTES: u64 = 1 << 20;
}

/// What one job or load may use. Reaching a limit is a verdict, not an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JobLimits {
    /// Units of fuel; see the cost schedule.
    pub fuel: u64,
    /// Bytes of linear memory, the model's image included.
    pub memory_bytes: u64,
    /// Bytes of the encoded request.
    pub input_bytes: u64,
    /// Bytes of the encoded reply.
    pub output_bytes: u64,
    /// Bytes of log that are kept; a guest that writes more loses the middle.
    pub log_bytes: usize,
}

impl Default for JobLimits {
    /// 100 G fuel (some twenty seconds of one core as models burn it, three minutes at worst), all the memory that 32 bits address, 1 GiB in and
    /// out, 64 KiB of log.
    fn default() -> Self {
        Self {
            fuel: 100_000_000_000,
            memory_bytes: constants::MEMORY_PAGES_MAX * constants::WASM_PAGE_BYTES,
            input_bytes: 1 << 30,
            output_bytes: 1 << 30,
            log_bytes: 64 << 10,
        }
    }
}
