//! Several models behind one engine: each is loaded when a request asks for it, and they share a budget of memory.

use super::uses::Uses;
use super::{Engine, EngineError, InitImage, Loading, Observer, PendingImages, Prefetch};
use latentd_request::ImageRequest;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a model that could not be loaded is not tried again.
const RETRY_AFTER: Duration = Duration::from_secs(60);

/// A model that can be loaded.
pub struct Volume {
    /// What log lines call it.
    pub name: String,
    /// The published models for which it answers.
    pub answers_for: Vec<String>,
    /// Bytes that it takes.
    pub bytes: u64,
    /// Loads it; an [`EngineError::Fault`] ends the process, anything else the request.
    pub load: Box<dyn FnMut() -> Result<Box<dyn Engine>, EngineError> + Send>,
}

/// Models, of which some are loaded: as many as the budget holds, those that were used last.
pub struct Shelf {
    volumes: Vec<Volume>,
    /// The one that was used last comes last.
    loaded: Vec<Loaded>,
    budget: u64,
    failures: HashMap<usize, (Instant, String)>,
    retry_after: Duration,
    prefetchers: Prefetchers,
}

struct Loaded {
    volume: usize,
    engine: Box<dyn Engine>,
    uses: Uses,
}

/// What encodes prompts ahead, by the name that requests have.
type Prefetchers = Arc<Mutex<HashMap<String, (Prefetch, Uses)>>>;

impl Shelf {
    /// A shelf of models, with the first loaded. They take `budget` bytes at most.
    ///
    /// # Errors
    /// The first cannot be loaded.
    pub fn open(volumes: Vec<Volume>, budget: u64) -> Result<Self, EngineError> {
        let mut shelf = Self {
            volumes,
            loaded: Vec::new(),
            budget,
            failures: HashMap::new(),
            retry_after: RETRY_AFTER,
            prefetchers: Prefetchers::default(),
        };
        shelf.load(0)?;
        Ok(shelf)
    }

    /// How long a model that could not be loaded is not tried again, instead of a minute.
    #[must_use]
    pub fn retry_after(self, retry_after: Duration) -> Self {
        Self { retry_after, ..self }
    }

    /// The model that a request is for; one from before there was a choice is for the first.
    fn volume(&self, request: &ImageRequest) -> Result<usize, EngineError> {
        if request.model.is_empty() {
            return Ok(0);
        }
        let answers = |volume: &Volume| volume.answers_for.contains(&request.model);
        let unknown = || EngineError::Load(format!("this worker has no {}", request.model));
        self.volumes.iter().position(answers).ok_or_else(unknown)
    }

    /// Puts a model that is loaded last; `false` if it is not.
    fn bring_forward(&mut self, volume: usize) -> bool {
        let Some(at) = self.loaded.iter().position(|loaded| loaded.volume == volume) else { return false };
        self.loaded[at..].rotate_left(1);
        true
    }

    /// Drops those models that were not used for longest, until one more has room.
    fn make_room(&mut self, volume: usize) {
        let needed = self.volumes[volume].bytes;
        let taken = |loaded: &[Loaded]| loaded.iter().map(|one| self.volumes[one.volume].bytes).sum::<u64>();
        while !self.loaded.is_empty() && taken(&self.loaded).saturating_add(needed) > self.budget {
            let Loaded { volume, engine, uses } = self.loaded.remove(0);
            let Volume { name, answers_for, .. } = &self.volumes[volume];
            tracing::info!(model = name, "makes room");
            locked(&self.prefetchers).retain(|name, _| !answers_for.contains(name));
            // What others still do with it is over soon, and only then its memory is free.
            uses.wait();
            drop(engine);
        }
    }

    fn load(&mut self, volume: usize) -> Result<(), EngineError> {
        let engine = (self.volumes[volume].load)()?;
        let uses = Uses::default();
        if let Some(prefetch) = engine.prefetch() {
            let names = self.volumes[volume].answers_for.iter();
            let each = names.map(|name| (name.clone(), (prefetch.clone(), uses.clone())));
            locked(&self.prefetchers).extend(each);
        }
        self.loaded.push(Loaded { volume, engine, uses });
        Ok(())
    }

    /// Loads a model, or says once more why it could not be loaded a moment ago.
    fn try_load(&mut self, volume: usize) -> Result<(), EngineError> {
        let name = self.volumes[volume].name.clone();
        let loaded = self.load(volume).map_err(|error| match error {
            EngineError::Fault(words) => EngineError::Fault(format!("{name} cannot be loaded: {words}")),
            other => EngineError::Load(format!("{name} cannot be loaded: {other}")),
        });
        if let Err(EngineError::Load(words)) = &loaded {
            tracing::error!("{words}");
            self.failures.insert(volume, (Instant::now(), words.clone()));
        }
        loaded
    }

    fn recent_failure(&mut self, volume: usize) -> Option<EngineError> {
        let (when, words) = self.failures.remove(&volume)?;
        (when.elapsed() < self.retry_after).then(|| {
            self.failures.insert(volume, (when, words.clone()));
            EngineError::Load(words)
        })
    }
}

impl Engine for Shelf {
    fn prepare(&mut self, request: &ImageRequest, tell: &mut dyn FnMut(Loading)) -> Result<(), EngineError> {
        let volume = self.volume(request)?;
        if self.bring_forward(volume) {
            return Ok(());
        }
        if let Some(error) = self.recent_failure(volume) {
            return Err(error);
        }
        self.make_room(volume);
        tell(Loading::Begins { model: self.volumes[volume].name.clone(), loaded: self.loaded() });
        let started = Instant::now();
        self.try_load(volume)?;
        tell(Loading::Done { seconds: started.elapsed().as_secs_f64(), loaded: self.loaded() });
        Ok(())
    }

    fn generate(
        &mut self,
        request: &ImageRequest,
        init_image: Option<InitImage>,
        observer: &mut dyn Observer,
    ) -> Result<PendingImages, EngineError> {
        let volume = self.volume(request)?;
        let loaded = self.loaded.last_mut().filter(|loaded| loaded.volume == volume);
        let Some(Loaded { engine, uses, .. }) = loaded else {
            return Err(EngineError::Fault(format!("{} was not made ready", request.model)));
        };
        let in_use = uses.begin();
        let painted = engine.generate(request, init_image, observer)?;
        Ok(Box::new(move || {
            let generated = painted();
            drop(in_use);
            generated
        }))
    }

    /// Encodes prompts for models that are loaded; it loads none.
    fn prefetch(&self) -> Option<Prefetch> {
        if locked(&self.prefetchers).is_empty() {
            return None; // of one device no model overlaps, or all do
        }
        let prefetchers = self.prefetchers.clone();
        Some(Arc::new(move |request| {
            let known =
                locked(&prefetchers).get(&request.model).map(|(one, uses)| (uses.begin(), one.clone()));
            match known {
                // The use comes first, so that it ends last.
                Some((_in_use, prefetch)) => prefetch(request),
                None => Ok(()),
            }
        }))
    }

    fn loaded(&self) -> Vec<String> {
        let names = self.loaded.iter().flat_map(|loaded| &self.volumes[loaded.volume].answers_for);
        names.cloned().collect()
    }
}

/// Whoever panicked while it held the lock left the map whole.
fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
