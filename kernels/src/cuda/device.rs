//! What the ops need of a GPU: its kernels, loaded once, its matrix-product plans, and facts to choose by. It lasts as long
//! as the [`DeviceHandle`] that opened it.

use super::gemm::Gemm;
use super::pinned::Uploads;
use super::select::{Built, Card, Kernels, select};
use super::side_stream::SideStream;
use super::{branch, memory};
use candle_core::cuda_backend::{CudaDevice, DeviceId, WrapErr};
use candle_core::{DType, Device, Error, Result, bail};
use cudarc::driver::{CudaFunction, CudaModule, CudaStream, DriverError, sys};
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, OnceLock, PoisonError};

/// The fatbins of `kernels/cuda/*.cu`.
const MODULES: &[&[u8]] = include!(concat!(env!("OUT_DIR"), "/modules.rs"));

/// One GPU as this crate uses it. There is one for each candle device.
pub(crate) struct Gpu {
    pub(crate) device: CudaDevice,
    /// candle's stream of the device.
    main: Arc<CudaStream>,
    /// A second one, made when it is first asked for.
    side: OnceLock<SideStream>,
    uploads: OnceLock<Uploads>,
    /// Major and minor.
    pub(crate) capability: (i32, i32),
    /// Those that the ops choose here.
    pub(crate) kernels: Kernels,
    gemm: Mutex<Gemm>,
    modules: Vec<Arc<CudaModule>>,
    functions: Mutex<HashMap<String, CudaFunction>>,
}

/// A candle device that this crate's ops run on, until the last clone is dropped. Then its kernels, streams and workspaces
/// go, as soon as no tensor and no graph is left that uses them.
#[derive(Clone)]
pub struct DeviceHandle {
    device: Device,
    _opened: Arc<Opened>,
}

/// Closes the device when it is dropped.
struct Opened(DeviceId);

/// The devices of this process.
static DEVICES: LazyLock<Mutex<Devices>> = LazyLock::new(Mutex::default);

#[derive(Default)]
struct Devices {
    open: HashMap<DeviceId, Arc<Gpu>>,
    /// Those that something still used when it was last looked.
    closed: Vec<Arc<Gpu>>,
}

impl Devices {
    /// Takes out those closed devices that nothing uses any more.
    fn unused(&mut self) -> Vec<Arc<Gpu>> {
        self.closed.extract_if(.., |gpu| Gpu::is_unused(gpu)).collect()
    }
}

fn devices() -> MutexGuard<'static, Devices> {
    DEVICES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Locked while a graph is captured, and around every call that waits for all streams of a context: opening a device
/// (`cuCtxSynchronize`), and destroying its libraries' handles. Such a wait ends the captures of every thread.
static CONTEXTS: Mutex<()> = Mutex::new(());

pub(super) fn lock_contexts() -> MutexGuard<'static, ()> {
    CONTEXTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `work`, which waits for all of a device, while no thread captures.
pub fn between_captures<T>(work: impl FnOnce() -> T) -> T {
    let _alone = lock_contexts();
    work()
}

impl DeviceHandle {
    /// Opens a GPU: loads every kernel and prepares the matrix products, so that no request waits for it. Each call opens
    /// another device with a stream of its own, on the same card.
    ///
    /// The algorithm of a product is timed the first time that a shape of it is seen. With a folder for them, `choices`, it
    /// is kept there for later processes, which then also get the same bits.
    ///
    /// # Errors
    /// There is no such GPU, or the driver is too old for this build.
    pub fn open(ordinal: usize, choices: Option<&Path>) -> Result<Self> {
        let _alone = lock_contexts();
        let unused = devices().unused();
        drop(unused);
        let device = CudaDevice::new_with_stream(ordinal)?;
        track_nothing(&device);
        let gpu = Arc::new(Gpu::open(&device)?);
        if let Some(folder) = choices {
            gpu.gemm().keep_choices(folder, &gpu.describe()?);
        }
        devices().open.insert(device.id(), gpu);
        Ok(Self { _opened: Arc::new(Opened(device.id())), device: Device::Cuda(device) })
    }

    /// As candle knows it.
    pub fn device(&self) -> &Device {
        &self.device
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        let _alone = lock_contexts();
        let unused = {
            let mut devices = devices();
            let closed = devices.open.remove(&self.0);
            devices.closed.extend(closed);
            devices.unused()
        };
        // After the devices' lock, which every op takes.
        drop(unused);
    }
}

#[expect(unsafe_code, reason = "candle's switch is unsafe")]
fn track_nothing(device: &CudaDevice) {
    // SAFETY: all work of a device goes to its one stream, in order, so there are no uses on other streams to wait for,
    // but for `fork_join`, whose memory is laid out for that. Events on every tensor would also be captured into graphs.
    unsafe { device.disable_event_tracking() }
}

impl Gpu {
    /// The GPU behind a candle device that is open.
    pub(crate) fn of(device: &CudaDevice) -> Result<Arc<Self>> {
        match devices().open.get(&device.id()) {
            Some(gpu) => Ok(gpu.clone()),
            None => bail!("a CUDA device that was not opened by this crate, or was closed"),
        }
    }

    /// Whether neither an op or graph uses this, nor a tensor the candle device: each of its clones shares its cuBLAS.
    fn is_unused(self: &Arc<Self>) -> bool {
        let blas = self.device.cublas_handle();
        Arc::strong_count(self) == 1 && Arc::strong_count(&blas) == 2
    }

    fn open(device: &CudaDevice) -> Result<Self> {
        let stream = device.cuda_stream();
        let context = stream.context().clone();
        let capability = context.compute_capability().w()?;
        memory::keep_freed(context.cu_device())?;
        let mut modules = Vec::new();
        for fatbin in MODULES {
            let image = cudarc::nvrtc::Ptx::from_binary(fatbin.to_vec());
            modules.push(context.load_module(image).map_err(|why| not_loaded(capability, &why))?);
        }
        let gemm = Gemm::new(&stream)?;
        let kernels = select(Card { capability, row_scaled_fp8: gemm.has_row_scaled_fp8() }, Built::this());
        Ok(Self {
            device: device.clone(),
            gemm: Mutex::new(gemm),
            main: stream,
            side: OnceLock::new(),
            uploads: OnceLock::new(),
            capability,
            kernels,
            modules,
            functions: Mutex::default(),
        })
    }

    /// The stream that an op launches on: candle's, or the second one in the side branch of a
    /// [`fork_join`](super::fork_join()) that is captured.
    pub(crate) fn stream(&self) -> &Arc<CudaStream> {
        match self.side.get() {
            Some(side) if branch::on_side_stream(self.device.id()) => &side.stream,
            _ => &self.main,
        }
    }

    /// candle's stream of the device, which memory is taken from and given back to.
    pub(crate) fn main(&self) -> &Arc<CudaStream> {
        &self.main
    }

    /// Another handle to the same stream; its reference count shows whether the stream is still used.
    #[expect(unsafe_code, reason = "a stream that another handle owns")]
    pub(super) fn alias_of_main(&self) -> Arc<CudaStream> {
        // SAFETY: it is for memory of a tensor on this device, which keeps the stream's owner alive; all its work is in
        // the order of that one stream.
        unsafe { self.main.context().wrap_borrowed_stream(self.main.cu_stream()) }
    }

    /// The second stream, which is made unless it is there.
    pub(super) fn side_stream(&self) -> Result<&SideStream> {
        // Under this lock, so that two threads do not make two.
        let mut gemm = self.gemm();
        if let Some(side) = self.side.get() {
            return Ok(side);
        }
        let side = SideStream::new(self.main.context())?;
        gemm.serve(&side.stream, &self.main)?;
        // Its workspace comes from the first stream.
        side.follow(&self.main)?;
        Ok(self.side.get_or_init(|| side))
    }

    /// What uploads go through, which is made unless it is there.
    pub(super) fn uploads(&self) -> Result<&Uploads> {
        if let Some(uploads) = self.uploads.get() {
            return Ok(uploads);
        }
        let uploads = Uploads::new(self.main.context())?;
        Ok(self.uploads.get_or_init(|| uploads))
    }

    /// The matrix products.
    pub(crate) fn gemm(&self) -> MutexGuard<'_, Gemm> {
        self.gemm.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A line that identifies this card and driver, for results that depend on them.
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

#[cfg(test)]
mod tests;
