//! cuBLASLt's descriptors as owned values, and its calls. `gemm.rs` chooses among the algorithms that it proposes.

use super::choices::Algorithm;
use super::product::{Addresses, Epilogue, Shape};
use crate::OutOfMemory;
use candle_core::{DType, Error, Result, bail};
use cudarc::cublaslt::result::{self, CublasError};
use cudarc::cublaslt::sys;
use cudarc::driver::CudaStream;
use std::ffi::c_void;
use std::mem::MaybeUninit;
use sys::cublasLtMatmulDescAttributes_t as DescriptorAttribute;
use sys::cublasLtMatmulPreferenceAttributes_t as PreferenceAttribute;
use sys::cublasLtMatrixLayoutAttribute_t as LayoutAttribute;

/// The types of a product. It accumulates in f32 whatever they are (and never in tf32).
struct Problem {
    input: sys::cudaDataType,
    output: sys::cudaDataType,
    /// Rows and outputs have scales.
    scaled: bool,
}

impl Problem {
    fn of(dtype: DType) -> Result<Self> {
        use sys::cudaDataType_t::{CUDA_R_8F_E4M3, CUDA_R_16BF, CUDA_R_32F};
        let (input, output) = match dtype {
            DType::F32 => (CUDA_R_32F, CUDA_R_32F),
            DType::BF16 => (CUDA_R_16BF, CUDA_R_16BF),
            DType::U8 => (CUDA_R_8F_E4M3, CUDA_R_16BF),
            other => bail!("linear: expected f32, bf16 or e4m3, got {other:?}"),
        };
        Ok(Self { input, output, scaled: dtype == DType::U8 })
    }
}

fn failed(error: CublasError) -> Error {
    match error {
        CublasError(sys::cublasStatus_t::CUBLAS_STATUS_ALLOC_FAILED) => OutOfMemory.into(),
        CublasError(_) => Error::Msg(format!("cuBLASLt: {error}")),
    }
}

/// What a product computes.
struct Descriptor {
    handle: sys::cublasLtMatmulDesc_t,
    biased: bool,
}

// SAFETY: a descriptor is plain memory that is only used under the lock of the device's products.
#[expect(unsafe_code, reason = "handles are pointers")]
unsafe impl Send for Descriptor {}

impl Descriptor {
    fn new(problem: &Problem, epilogue: Epilogue) -> Result<Self> {
        let compute = sys::cublasComputeType_t::CUBLAS_COMPUTE_32F;
        let handle = result::create_matmul_desc(compute, sys::cudaDataType_t::CUDA_R_32F).map_err(failed)?;
        let new = Self { handle, biased: epilogue != Epilogue::None };
        let (transposed, plain) = (1i32, 0i32);
        new.set(DescriptorAttribute::CUBLASLT_MATMUL_DESC_TRANSA, &transposed)?;
        new.set(DescriptorAttribute::CUBLASLT_MATMUL_DESC_TRANSB, &plain)?;
        let kind = match epilogue {
            Epilogue::None => sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_DEFAULT,
            Epilogue::Bias => sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_BIAS,
            Epilogue::BiasGelu => sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_GELU_BIAS,
        };
        new.set(DescriptorAttribute::CUBLASLT_MATMUL_DESC_EPILOGUE, &kind)?;
        if new.biased {
            new.set(DescriptorAttribute::CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &problem.output)?;
        }
        if problem.scaled {
            let by_row = sys::cublasLtMatmulMatrixScale_t::CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F;
            new.set(DescriptorAttribute::CUBLASLT_MATMUL_DESC_A_SCALE_MODE, &by_row)?;
            new.set(DescriptorAttribute::CUBLASLT_MATMUL_DESC_B_SCALE_MODE, &by_row)?;
            // Adds 32 products at a time in the tensor core's own precision, as every fp8 peer does: exact
            // accumulation halves the rate.
            new.set(DescriptorAttribute::CUBLASLT_MATMUL_DESC_FAST_ACCUM, &1i8)?;
        }
        Ok(new)
    }

    /// Sets the addresses that are part of the descriptor.
    fn point(&self, at: Addresses) -> Result<()> {
        if self.biased {
            self.set(DescriptorAttribute::CUBLASLT_MATMUL_DESC_BIAS_POINTER, &at.bias)?;
        }
        if let Some((x, w)) = at.scales {
            self.set(DescriptorAttribute::CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, &w)?;
            self.set(DescriptorAttribute::CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, &x)?;
        }
        Ok(())
    }

    #[expect(unsafe_code, reason = "a C call")]
    fn set<T>(&self, attribute: DescriptorAttribute, value: &T) -> Result<()> {
        let value: *const T = value;
        // SAFETY: the handle is alive and the library copies `size_of::<T>()` bytes, which each attribute's type has.
        unsafe { result::set_matmul_desc_attribute(self.handle, attribute, value.cast(), size_of::<T>()) }
            .map_err(failed)
    }
}

impl Drop for Descriptor {
    #[expect(unsafe_code, reason = "a C call")]
    fn drop(&mut self) {
        // SAFETY: made by `new`, destroyed once. A failure leaks a few hundred bytes.
        let _ = unsafe { result::destroy_matmul_desc(self.handle) };
    }
}

/// A column-major matrix.
struct Layout {
    handle: sys::cublasLtMatrixLayout_t,
}

// SAFETY: as for `Descriptor`.
#[expect(unsafe_code, reason = "handles are pointers")]
unsafe impl Send for Layout {}

impl Layout {
    /// `rows` are the dimension whose elements are neighbours; `stride` leads from a column to the next.
    fn new(dtype: sys::cudaDataType, (rows, columns): (u64, u64), stride: i64) -> Result<Self> {
        let handle = result::create_matrix_layout(dtype, rows, columns, stride).map_err(failed)?;
        Ok(Self { handle })
    }

    /// As many matrices, `stride` elements apart.
    fn batch(&self, count: u32, stride: i64) -> Result<()> {
        self.set(LayoutAttribute::CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count)?;
        self.set(LayoutAttribute::CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &stride)
    }

    #[expect(unsafe_code, reason = "a C call")]
    fn set<T>(&self, attribute: LayoutAttribute, value: &T) -> Result<()> {
        let value: *const T = value;
        // SAFETY: as in `Descriptor::set`.
        unsafe { result::set_matrix_layout_attribute(self.handle, attribute, value.cast(), size_of::<T>()) }
            .map_err(failed)
    }
}

impl Drop for Layout {
    #[expect(unsafe_code, reason = "a C call")]
    fn drop(&mut self) {
        // SAFETY: as in `Descriptor::drop`.
        let _ = unsafe { result::destroy_matrix_layout(self.handle) };
    }
}

/// A product as cuBLASLt's descriptors.
pub(super) struct Product {
    descriptor: Descriptor,
    a: Layout,
    b: Layout,
    d: Layout,
}

impl Product {
    pub(super) fn new(shape: Shape, at: Addresses) -> Result<Self> {
        let problem = Problem::of(shape.dtype)?;
        let descriptor = Descriptor::new(&problem, shape.epilogue)?;
        // Algorithms may depend on how well the bias is aligned.
        descriptor.point(at)?;
        let (rows, inputs, outputs) =
            (u64::from(shape.rows), u64::from(shape.inputs), u64::from(shape.outputs));
        let (k, n) = (i64::from(shape.inputs), i64::from(shape.outputs));
        let a = Layout::new(problem.input, (inputs, outputs), k)?;
        let b = Layout::new(problem.input, (inputs, rows), shape.x_stride)?;
        let d = Layout::new(problem.output, (outputs, rows), n)?;
        if shape.batch > 1 {
            a.batch(shape.batch, 0)?;
            b.batch(shape.batch, shape.x_batch)?;
            d.batch(shape.batch, i64::from(shape.rows) * n)?;
        }
        Ok(Self { descriptor, a, b, d })
    }
}

/// What algorithms may use.
pub(super) struct Preference {
    handle: sys::cublasLtMatmulPreference_t,
}

impl Preference {
    /// At most so much workspace, and addresses of A and B aligned to so many bytes. No algorithm that splits sums over
    /// blocks: what is left adds along K in order, so that choosing by time should not change a result (a card has yet
    /// to confirm it).
    pub(super) fn new(workspace_bytes: usize, a_alignment: u32, b_alignment: u32) -> Result<Self> {
        let new = Self { handle: result::create_matmul_pref().map_err(failed)? };
        new.set(PreferenceAttribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &a_alignment)?;
        new.set(PreferenceAttribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &b_alignment)?;
        new.set(PreferenceAttribute::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace_bytes)?;
        let unsplit = 0u32;
        new.set(PreferenceAttribute::CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &unsplit)?;
        Ok(new)
    }

    #[expect(unsafe_code, reason = "a C call")]
    fn set<T>(&self, attribute: PreferenceAttribute, value: &T) -> Result<()> {
        let value: *const T = value;
        // SAFETY: as in `Descriptor::set`.
        unsafe { result::set_matmul_pref_attribute(self.handle, attribute, value.cast(), size_of::<T>()) }
            .map_err(failed)
    }
}

impl Drop for Preference {
    #[expect(unsafe_code, reason = "a C call")]
    fn drop(&mut self) {
        // SAFETY: as in `Descriptor::drop`.
        let _ = unsafe { result::destroy_matmul_pref(self.handle) };
    }
}

/// The library.
pub(super) struct Handle(sys::cublasLtHandle_t);

// SAFETY: the handle has no thread of its own and is used under the lock of the device's products.
#[expect(unsafe_code, reason = "handles are pointers")]
unsafe impl Send for Handle {}

impl Handle {
    pub(super) fn new() -> Result<Self> {
        result::create_handle().map(Self).map_err(failed)
    }

    #[expect(unsafe_code, reason = "a C call")]
    pub(super) fn version() -> usize {
        // SAFETY: it reads a constant.
        unsafe { sys::cublasLtGetVersion() }
    }

    /// Up to `count` algorithms, the likely fastest first.
    #[expect(unsafe_code, reason = "a C call")]
    pub(super) fn candidates(
        &self,
        Product { descriptor, a, b, d }: &Product,
        preference: &Preference,
        count: usize,
    ) -> Result<Vec<Algorithm>> {
        let mut found: Vec<sys::cublasLtMatmulHeuristicResult_t> = Vec::with_capacity(count);
        let mut returned = 0;
        // SAFETY: all handles are alive, and there is space for the `count` results that are asked for, of which the
        // library fills the first `returned`.
        unsafe {
            sys::cublasLtMatmulAlgoGetHeuristic(
                self.0,
                descriptor.handle,
                a.handle,
                b.handle,
                d.handle,
                d.handle,
                preference.handle,
                i32::try_from(count).unwrap_or(i32::MAX),
                found.as_mut_ptr(),
                &mut returned,
            )
            .result()
            .map_err(failed)?;
            found.set_len(usize::try_from(returned).unwrap_or(0).min(count));
        }
        let usable = |result: &&sys::cublasLtMatmulHeuristicResult_t| {
            result.state == sys::cublasStatus_t::CUBLAS_STATUS_SUCCESS
        };
        Ok(found.iter().filter(usable).map(|result| result.algo).collect())
    }

    /// Whether the library runs this algorithm for this product in so much workspace.
    #[expect(unsafe_code, reason = "a C call")]
    pub(super) fn accepts(
        &self,
        Product { descriptor, a, b, d }: &Product,
        algorithm: &Algorithm,
        workspace_bytes: usize,
    ) -> bool {
        let mut result = MaybeUninit::<sys::cublasLtMatmulHeuristicResult_t>::zeroed();
        // SAFETY: all handles are alive; the algorithm is one that this version of the library proposed for this card,
        // which is what the file it may come from is checked for; the result is plain numbers, valid as zeros.
        let (status, result) = unsafe {
            let status = sys::cublasLtMatmulAlgoCheck(
                self.0,
                descriptor.handle,
                a.handle,
                b.handle,
                d.handle,
                d.handle,
                algorithm,
                result.as_mut_ptr(),
            );
            (status, result.assume_init())
        };
        status == sys::cublasStatus_t::CUBLAS_STATUS_SUCCESS && result.workspaceSize <= workspace_bytes
    }

    /// `D = A^T B` with the descriptor's epilogue.
    #[expect(unsafe_code, reason = "a C call")]
    pub(super) fn matmul(
        &self,
        stream: &CudaStream,
        Product { descriptor, a, b, d }: &Product,
        at: Addresses,
        algorithm: &Algorithm,
        (workspace, workspace_bytes): (u64, usize),
    ) -> Result<()> {
        descriptor.point(at)?;
        let (one, zero) = (1f32, 0f32);
        // SAFETY: handles are alive; the addresses are device memory of the layouts' sizes, as the op's shape checks
        // assure; the workspace belongs to this stream's products alone.
        unsafe {
            result::matmul(
                self.0,
                descriptor.handle,
                (&raw const one).cast(),
                (&raw const zero).cast(),
                at.w as *const c_void,
                a.handle,
                at.x as *const c_void,
                b.handle,
                at.y as *const c_void,
                d.handle,
                at.y as *mut c_void,
                d.handle,
                algorithm,
                workspace as *mut c_void,
                workspace_bytes,
                stream.cu_stream().cast(),
            )
        }
        .map_err(failed)
    }
}

impl Drop for Handle {
    #[expect(unsafe_code, reason = "a C call")]
    fn drop(&mut self) {
        // SAFETY: as in `Descriptor::drop`.
        let _ = unsafe { result::destroy_handle(self.0) };
    }
}
