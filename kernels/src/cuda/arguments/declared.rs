//! What kernels are handed, one struct a kernel, and the numbers that they share with their launches: declared here and
//! nowhere else. These two macros make Rust of it in this crate, and C++ of it (`cuda/arguments.cuh`) in its build script.

use super::{Bf16, E4m3, In, Out, Pair, T};

constants! {
    /// Threads of a warp.
    const WARP = 32;
    /// Bytes that a thread moves at once.
    const WORD_BYTES = 16;
    /// Words of a row that a thread keeps. Of twice as many, and what is computed of them, the registers hold less.
    const SLOTS = 5;
    /// Warps that share a row, at most.
    const MAX_TEAM_WARPS = 16;
    /// Threads of a block of joint_qkv.
    const JOINT_QKV_THREADS = 256;
    /// Queries and threads of a block of attention without tensor cores.
    const ATTENTION_QUERIES = 64;
    const ATTENTION_THREADS = 256;
    /// Threads of a block of a kernel that maps elements.
    const MAP_THREADS = 256;
    /// Activations.
    const GELU_TANH = 1;
    const GELU_ERF = 2;
    const QUICK_GELU = 3;
    const SILU = 4;
    const RELU = 5;
    /// Types of blocks.
    const BLOCKS_Q4_0 = 1;
    const BLOCKS_Q4_1 = 2;
    const BLOCKS_Q5_0 = 3;
    const BLOCKS_Q5_1 = 4;
    const BLOCKS_Q8_0 = 5;
    const BLOCKS_Q2_K = 6;
    const BLOCKS_Q3_K = 7;
    const BLOCKS_Q4_K = 8;
    const BLOCKS_Q5_K = 9;
    const BLOCKS_Q6_K = 10;
    /// Threads of a block of group_norm.
    const GROUP_NORM_THREADS = 384;
}

arguments! {
    /// Elements from one batch element to the next, and from one row to the next.
    struct Strides {
        batch: i64,
        row: i64,
    }

    /// How the rows of a launch are cut (`rows.cuh`).
    struct RowSizes {
        /// Rows of all batch elements.
        total: u32,
        /// Rows of one batch element.
        rows: u32,
        /// Elements of a row.
        width: u32,
        /// Warps that share a row.
        warps: u32,
        /// 1 if all rows are whole 16-byte words that fit the registers, else 0.
        fast: u32,
    }

    struct LayerNorm<T> {
        /// `[rows, D]`
        out: Out<T>,
        /// `[rows, D]` at any strides over whole rows
        x: In<T>,
        /// `[D]`
        weight: In<T>,
        /// `[D]`
        bias: In<T>,
        x_strides: Strides,
        sizes: RowSizes,
        eps: f32,
    }

    struct RmsNorm<T> {
        /// `[rows, D]`
        out: Out<T>,
        /// `[rows, D]` at any strides over whole rows
        x: In<T>,
        /// `[D]`
        weight: In<T>,
        x_strides: Strides,
        sizes: RowSizes,
        eps: f32,
    }

    struct QuantizeRowwise<T> {
        /// `[rows, D]`
        values: Out<E4m3>,
        /// `[rows]`
        scales: Out<f32>,
        /// `[rows, D]` at any strides over whole rows
        x: In<T>,
        x_strides: Strides,
        sizes: RowSizes,
    }

    /// Where a norm goes: to `out` in the storage's type, or to `values` with `scales`. The rest is null.
    struct Normed<T> {
        /// `[B, L, D]`
        out: Out<T>,
        /// `[B, L, D]`
        values: Out<E4m3>,
        /// `[B, L]`
        scales: Out<f32>,
    }

    struct LayerNormModulate<T> {
        to: Normed,
        /// `[B, L, D]`, rows at any strides
        x: In<T>,
        /// `[B, D]`
        shift: In<T>,
        /// `[B, D]`
        scale: In<T>,
        x_strides: Strides,
        /// Elements from a batch element's modulations to the next's.
        mods_stride: i64,
        sizes: RowSizes,
        eps: f32,
    }

    struct GatedAdd<T> {
        /// `[B, L, D]`
        sum: Out<T>,
        /// `[B, L, D]`, rows at any strides
        x: In<T>,
        /// `[B, L, D]`, rows at any strides
        y: In<T>,
        /// `[B, D]`
        gate: In<T>,
        x_strides: Strides,
        y_strides: Strides,
        /// Elements from a batch element's modulations to the next's.
        mods_stride: i64,
        sizes: RowSizes,
    }

    struct GatedAddModulate<T> {
        add: GatedAdd,
        to: Normed,
        /// `[B, D]`
        shift: In<T>,
        /// `[B, D]`
        scale: In<T>,
        eps: f32,
    }

    struct JointQkv<T> {
        /// `[B, Li + Lt, 3, H, Dh]`
        out: Out<T>,
        /// `[B, Li, 3, H, Dh]`, tokens at any strides
        image: In<T>,
        /// `[B, Lt, 3, H, Dh]`, tokens at any strides; null if Lt is 0
        text: In<T>,
        /// `[4, Dh]`, or `[2, Dh]` without text; null: q and k are copied
        norms: In<T>,
        image_strides: Strides,
        text_strides: Strides,
        image_rows: u32,
        text_rows: u32,
        heads: u32,
        head_dim: u32,
        /// Lanes that share a head, a power of two.
        lanes: u32,
        /// 1 if every token and weight is whole 16-byte words, and a head at most one for each lane; else 0.
        fast: u32,
        eps: f32,
    }

    struct PortableAttention<T> {
        /// `[B, length, 3, heads, head_dim]`
        qkv: In<T>,
        /// `[B, length, heads * head_dim]`
        out: Out<T>,
        length: u32,
        heads: u32,
        head_dim: u32,
        /// Of the scores.
        scale: f32,
    }

    struct Activate<T> {
        /// `[count]`, in place
        x: Out<T>,
        count: u64,
        activation: u32,
    }

    struct Add<T> {
        /// `[count]`
        a: In<T>,
        /// `[count]`
        b: In<T>,
        /// `[count]`
        out: Out<T>,
        count: u64,
    }

    struct Dequantize<T> {
        /// Whole blocks of `count` values, at an even address
        blocks: In<u8>,
        /// `[count]`, whole 16-byte words
        values: Out<T>,
        count: u64,
        /// One of `BLOCKS_`.
        kind: u32,
    }

    struct Upsample<T> {
        /// `[rows, width, channels]`
        x: In<T>,
        /// `[2 * rows, 2 * width, channels]`
        out: Out<T>,
        rows: u32,
        width: u32,
        channels: u32,
        /// Elements that move as one word.
        vector: u32,
    }

    /// How an image is cut into blocks; depends on its size and type alone.
    struct Cut {
        /// Pixels.
        area: u32,
        channels: u32,
        group_channels: u32,
        /// Groups of a block: all, if their channels are not more than its threads' vectors.
        tile_groups: u32,
        /// Chunks of pixels.
        splits: u32,
        /// Pixels of every chunk but the last.
        chunk: u32,
        /// Elements that move as one word.
        vector: u32,
    }

    struct GroupNormStatistics<T> {
        /// `[B, area, channels]`
        x: In<T>,
        /// `[B, groups, splits]`: mean, sum of squared differences from it
        partials: Out<Pair>,
        cut: Cut,
    }

    struct GroupNormApply<T> {
        /// `[B, area, channels]`
        x: In<T>,
        /// `[channels]`
        w: In<T>,
        /// `[channels]`
        b: In<T>,
        /// `[B, groups, splits]`
        partials: In<Pair>,
        /// `[B, area, channels]`
        out: Out<T>,
        cut: Cut,
        eps: f32,
        /// 0 or 1
        silu: u32,
    }

    /// `[count, channels, height, width]` in patches of patch x patch.
    struct Images {
        count: u32,
        channels: u32,
        height: u32,
        width: u32,
        patch: u32,
    }

    struct Patchify<T> {
        /// `[count, channels, height, width]`
        x: In<f32>,
        /// `[copies, count, length, channels * patch * patch]`
        out: Out<T>,
        images: Images,
        copies: u32,
        /// Elements that move as one word.
        vector: u32,
    }

    struct GuidedStep<T> {
        /// `[count, channels, height, width]`, in place
        x: Out<f32>,
        /// `[count, length, patch * patch * channels]`, or twice that if guided
        prediction: In<T>,
        /// Guidance, delta, the step's index.
        settings: In<f32>,
        /// `[1]`
        first_bad: Out<u32>,
        images: Images,
        /// 0 or 1
        guided: u32,
        /// Elements that move as one word.
        vector: u32,
    }

    struct AddPositions<T> {
        /// `[batch, rows, width]`, in place
        x: Out<T>,
        /// `[rows, width]`
        positions: In<T>,
        x_strides: Strides,
        positions_stride: i64,
        batch: u32,
        rows: u32,
        width: u32,
        /// Elements that move as one word.
        vector: u32,
    }

    /// Attention on tensor cores (`cutlass/`).
    struct FusedAttention {
        /// `[batch, length, 3, heads, head_dim]`
        qkv: In<Bf16>,
        /// `[batch, length, heads, head_dim]`
        out: Out<Bf16>,
        /// As large as the kernel's `_workspace` function says, or null if that is 0.
        workspace: Out<f32>,
        workspace_bytes: u64,
        batch: i32,
        length: i32,
        heads: i32,
        head_dim: i32,
        /// Of the scores.
        scale: f32,
    }

    /// A convolution that keeps the size, channels last (`cutlass/`).
    struct NhwcConvolution {
        /// `[n, h, w, c]`
        x: In<Bf16>,
        /// `[k, kernel, kernel, c]`
        weight: In<Bf16>,
        /// `[k]`
        bias: In<Bf16>,
        /// `[n, h, w, k]`
        out: Out<Bf16>,
        n: i32,
        h: i32,
        w: i32,
        c: i32,
        k: i32,
        /// 1 or 3.
        kernel: i32,
    }
}
