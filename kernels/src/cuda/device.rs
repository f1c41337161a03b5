//! What the ops need of a GPU: its kernels, loaded once, its matrix-product plans, and facts to choose by.

use super::beside::{self, Lane};
use super::gemm::Gemm;
use super::select::{Built, Card, Kernels, select};
use candle_core::cuda_backend::cudarc::driver::{CudaFunction, CudaModule, CudaStream, DriverError, sys};
use candle_core::cuda_backend::{CudaDevice, DeviceId, WrapErr};
use candle_core::{DType, Error, Result, bail};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// The fatbins of `kernels/cuda/*.cu`.
const MODULES: &[&[u8]] = include!(concat!(env!("OUT_DIR"), "/modules.rs"));

/// One GPU as this crate uses it. There is one for each candle device.
pub(crate) struct Gpu {
    pub(crate) device: CudaDevice,
    /// candle's stream of the device.
    main: Arc<CudaStream>,
    /// A second one, made when it is first asked for.
    lane: OnceLock<Lane>,
    /// Major and minor.
    pub(crate) capability: (i32, i32),
    /// Those that the ops choose here.
    pub(crate) kernels: Kernels,
    gemm: Mutex<Gemm>,
    modules: Vec<Arc<CudaModule>>,
    functions: Mutex<HashMap<String, CudaFunction>>,
}

static GPUS: OnceLock<Mutex<HashMap<DeviceId, Arc<Gpu>>>> = OnceLock::new();

impl Gpu {
    /// The GPU behind a candle device; the first call loads every kernel.
    pub(crate) fn of(device: &CudaDevice) -> Result<Arc<Self>> {
        let mut gpus = GPUS.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(gpu) = gpus.get(&device.id()) {
            return Ok(gpu.clone());
        }
        let gpu = Arc::new(Self::open(device)?);
        gpus.insert(device.id(), gpu.clone());
        Ok(gpu)
    }

    fn open(device: &CudaDevice) -> Result<Self> {
        let stream = device.cuda_stream();
        let context = stream.context().clone();
        let capability = context.compute_capability().w()?;
        keep_freed_memory(context.cu_device())?;
        let mut modules = Vec::new();
        for fatbin in MODULES {
            let image = candle_core::cuda_backend::cudarc::nvrtc::Ptx::from_binary(fatbin.to_vec());
            modules.push(context.load_module(image).map_err(|why| not_loaded(capability, &why))?);
        }
        let gemm = Gemm::new(&stream)?;
        let kernels = select(Card { capability, row_scaled_fp8: gemm.has_row_scaled_fp8() }, Built::this());
        Ok(Self {
            device: device.clone(),
            gemm: Mutex::new(gemm),
            main: stream,
            lane: OnceLock::new(),
            capability,
            kernels,
            modules,
            functions: Mutex::default(),
        })
    }

    /// The stream that an op launches on: candle's, or the second one inside [`beside()`](super::beside()).
    pub(crate) fn stream(&self) -> &Arc<CudaStream> {
        match self.lane.get() {
            Some(lane) if beside::is_active() => &lane.stream,
            _ => &self.main,
        }
    }

    /// candle's stream of the device, which memory is taken from and given back to.
    pub(crate) fn main(&self) -> &Arc<CudaStream> {
        &self.main
    }

    /// The second stream, which is made unless it is there.
    pub(crate) fn lane(&self) -> Result<&Lane> {
        // Under this lock, so that two threads do not make two.
        let mut gemm = self.gemm();
        if let Some(lane) = self.lane.get() {
            return Ok(lane);
        }
        let lane = Lane::new(self.main.context())?;
        gemm.serve(&lane.stream, &self.main)?;
        Ok(self.lane.get_or_init(|| lane))
    }

    /// The second stream, if it was made.
    pub(crate) fn known_lane(&self) -> Option<&Lane> {
        self.lane.get()
    }

    /// The matrix products.
    pub(crate) fn gemm(&self) -> MutexGuard<'_, Gemm> {
        self.gemm.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A line that tells this card and driver from others that compute otherwise.
    #[expect(unsafe_code, reason = "a C call")]
    pub(crate) fn describe(&self) -> Result<String> {
        let context = self.main.context();
        let (name, (major, minor)) = (context.name().w()?, self.capability);
        let attribute = sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT;
        let processors = context.attribute(attribute).w()?;
        let mut driver = 0;
        // SAFETY: the driver writes one number.
        unsafe { sys::cuDriverGetVersion(&mut driver).result().w()? };
        Ok(format!("{name}, capability {major}.{minor}, {processors} multiprocessors, CUDA driver {driver}"))
    }

    /// The kernel `<op>_<dtype>`.
    pub(crate) fn kernel(&self, op: &str, dtype: DType) -> Result<CudaFunction> {
        match dtype {
            DType::F32 => self.function(&format!("{op}_f32")),
            DType::BF16 => self.function(&format!("{op}_bf16")),
            other => bail!("{op}: expected f32 or bf16, got {other:?}"),
        }
    }

    /// The kernel of exactly this name.
    pub(crate) fn function(&self, name: &str) -> Result<CudaFunction> {
        let mut functions = self.functions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(function) = functions.get(name) {
            return Ok(function.clone());
        }
        let Some(function) = self.modules.iter().find_map(|module| module.load_function(name).ok()) else {
            bail!("this build has no CUDA kernel {name}")
        };
        functions.insert(name.into(), function.clone());
        Ok(function)
    }
}

/// Most often there is no code for so old a card, or the driver is too old to compile the rest.
fn not_loaded((major, minor): (i32, i32), why: &DriverError) -> Error {
    Error::Msg(format!(
        "its kernels are not loaded: this build has code for {}, and what newer cards compile; the card has compute \
         capability {major}.{minor} ({why})",
        env!("LATENTD_CUDA_ARCHS")
    ))
}

/// By default the driver gives freed memory back at every synchronisation, and the next step pays to get it again.
#[expect(unsafe_code, reason = "the driver's memory pools have no safe interface")]
fn keep_freed_memory(device: sys::CUdevice) -> Result<()> {
    let mut pool = std::ptr::null_mut();
    let mut threshold = u64::MAX;
    let attribute = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
    // SAFETY: the device exists, since a context on it does; the attribute is a u64 that is copied.
    unsafe {
        sys::cuDeviceGetDefaultMemPool(&mut pool, device).result().w()?;
        sys::cuMemPoolSetAttribute(pool, attribute, (&raw mut threshold).cast()).result().w()?;
    }
    Ok(())
}
