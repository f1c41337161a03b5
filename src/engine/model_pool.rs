//! Several models behind one engine: each is loaded when a request asks for it, and they share a memory budget.

use super::uses::Uses;
use super::{Engine, EngineError, Inputs, Loading, Observer, PendingImages, Prefetch};
use latentd_request::ImageRequest;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long the failure to load a model is remembered.
const RETRY_AFTER: Duration = Duration::from_secs(60);

/// A model that can be loaded.
pub struct ModelSlot {
    /// Its name in log lines.
    pub name: String,
    /// The published models for which it answers.
    pub answers_for: Vec<String>,
    /// Bytes of memory that it takes.
    pub bytes: u64,
    /// Loads it; an [`EngineError::Fault`] ends the process, anything else the request.
    pub load: Box<dyn FnMut() -> Result<Box<dyn Engine>, EngineError> + Send>,
}

/// Models, of which as many are loaded as the budget allows: the most recently used.
pub struct ModelPool {
    slots: Vec<ModelSlot>,
    /// The most recently used comes last.
    loaded: Vec<Loaded>,
    budget: u64,
    failures: HashMap<usize, (Instant, String)>,
    retry_after: Duration,
    prefetchers: Prefetchers,
}

struct Loaded {
    slot: usize,
    engine: Box<dyn Engine>,
    uses: Uses,
}

/// The prefetchers of loaded models, by the name that requests have.
type Prefetchers = Arc<Mutex<HashMap<String, (Prefetch, Uses)>>>;

impl ModelPool {
    /// A pool of models, the first of which is loaded now. Loaded models take `budget` bytes at most.
    ///
    /// # Errors
    /// The first cannot be loaded.
    pub fn open(slots: Vec<ModelSlot>, budget: u64) -> Result<Self, EngineError> {
        let mut pool = Self {
            slots,
            loaded: Vec::new(),
            budget,
            failures: HashMap::new(),
            retry_after: RETRY_AFTER,
            prefetchers: Prefetchers::default(),
        };
        pool.load(0)?;
        Ok(pool)
    }

    /// Sets how long the failure to load a model is remembered, instead of a minute.
    #[must_use]
    pub fn retry_after(self, retry_after: Duration) -> Self {
        Self { retry_after, ..self }
    }

    /// The model that a request is for; a request without a model's name, which old versions stored, is for the first.
    fn slot(&self, request: &ImageRequest) -> Result<usize, EngineError> {
        if request.model.is_empty() {
            return Ok(0);
        }
        let answers = |slot: &ModelSlot| slot.answers_for.contains(&request.model);
        let unknown = || EngineError::Load(format!("this worker has no {}", request.model));
        self.slots.iter().position(answers).ok_or_else(unknown)
    }

    /// Marks a loaded model as the most recently used; `false` if it is not loaded.
    fn touch(&mut self, slot: usize) -> bool {
        let Some(at) = self.loaded.iter().position(|loaded| loaded.slot == slot) else { return false };
        self.loaded[at..].rotate_left(1);
        true
    }

    /// Bytes that loaded models take.
    fn taken(&self) -> u64 {
        self.loaded.iter().map(|loaded| self.slots[loaded.slot].bytes).sum()
    }

    /// Evicts the least recently used models until one more fits into the budget.
    fn evict(&mut self, slot: usize) {
        let needed = self.slots[slot].bytes;
        while !self.loaded.is_empty() && self.taken().saturating_add(needed) > self.budget {
            self.unload(0);
        }
    }

    /// Evicts the loaded model at an index.
    fn unload(&mut self, at: usize) {
        let Loaded { slot, engine, uses } = self.loaded.remove(at);
        let ModelSlot { name, answers_for, .. } = &self.slots[slot];
        tracing::info!(model = name, "the model is evicted");
        locked(&self.prefetchers).retain(|name, _| !answers_for.contains(name));
        // Other threads finish with it soon, and only then its memory is free.
        uses.wait();
        drop(engine);
    }

    fn load(&mut self, slot: usize) -> Result<(), EngineError> {
        let engine = (self.slots[slot].load)()?;
        let uses = Uses::default();
        if let Some(prefetch) = engine.prefetch() {
            let names = self.slots[slot].answers_for.iter();
            let each = names.map(|name| (name.clone(), (prefetch.clone(), uses.clone())));
            locked(&self.prefetchers).extend(each);
        }
        self.loaded.push(Loaded { slot, engine, uses });
        Ok(())
    }

    /// Loads a model, and remembers the failure if it cannot be loaded. If the device has no memory for it beside others,
    /// which the budget allows, it is loaded alone.
    fn try_load(&mut self, slot: usize) -> Result<(), EngineError> {
        let name = self.slots[slot].name.clone();
        let mut loaded = self.load(slot);
        if matches!(loaded, Err(EngineError::OutOfMemory(_))) && !self.loaded.is_empty() {
            tracing::warn!(model = name, "the device has no memory for it beside the models that are loaded");
            while !self.loaded.is_empty() {
                self.unload(0);
            }
            loaded = self.load(slot);
        }
        let loaded = loaded.map_err(|error| match error {
            EngineError::Fault(words) => EngineError::Fault(format!("{name} cannot be loaded: {words}")),
            other => EngineError::Load(format!("{name} cannot be loaded: {other}")),
        });
        if let Err(EngineError::Load(words)) = &loaded {
            tracing::error!("{words}");
            self.failures.insert(slot, (Instant::now(), words.clone()));
        }
        loaded
    }

    fn recent_failure(&mut self, slot: usize) -> Option<EngineError> {
        let (when, words) = self.failures.remove(&slot)?;
        (when.elapsed() < self.retry_after).then(|| {
            self.failures.insert(slot, (when, words.clone()));
            EngineError::Load(words)
        })
    }
}

impl Engine for ModelPool {
    fn prepare(
        &mut self,
        request: &ImageRequest,
        on_loading: &mut dyn FnMut(Loading),
    ) -> Result<(), EngineError> {
        let slot = self.slot(request)?;
        if self.touch(slot) {
            return Ok(());
        }
        if let Some(error) = self.recent_failure(slot) {
            return Err(error);
        }
        self.evict(slot);
        on_loading(Loading::Begins { model: self.slots[slot].name.clone(), loaded: self.loaded() });
        let started = Instant::now();
        self.try_load(slot)?;
        on_loading(Loading::Done { seconds: started.elapsed().as_secs_f64(), loaded: self.loaded() });
        Ok(())
    }

    fn generate(
        &mut self,
        request: &ImageRequest,
        inputs: Inputs,
        observer: &mut dyn Observer,
    ) -> Result<PendingImages, EngineError> {
        let slot = self.slot(request)?;
        let loaded = self.loaded.last_mut().filter(|loaded| loaded.slot == slot);
        let Some(Loaded { engine, uses, .. }) = loaded else {
            return Err(EngineError::Fault(format!("{} was not made ready", request.model)));
        };
        let in_use = uses.begin();
        let mut pending = engine.generate(request, inputs, observer)?;
        let mut in_use = Some(in_use);
        Ok(Box::new(move |decoding| {
            let generated = pending(decoding);
            // Decoding once more waits for this thread, which must not wait for it to evict the model.
            drop(in_use.take());
            generated
        }))
    }

    fn stages_overlap(&self) -> bool {
        self.loaded.last().is_none_or(|loaded| loaded.engine.stages_overlap())
    }

    /// Evicts the other models, but for those that other threads use.
    fn free_memory(&mut self, request: &ImageRequest) -> Result<(), EngineError> {
        let slot = self.slot(request)?;
        for at in (0..self.loaded.len()).rev() {
            let Loaded { slot: other, uses, .. } = &self.loaded[at];
            if *other != slot && !uses.is_any() {
                self.unload(at);
            }
        }
        self.loaded.iter_mut().try_for_each(|loaded| loaded.engine.free_memory(request))
    }

    /// Encodes prompts for models that are loaded; it loads none.
    fn prefetch(&self) -> Option<Prefetch> {
        if locked(&self.prefetchers).is_empty() {
            return None; // on one device either no model has a prefetcher or all have
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
        let names = self.loaded.iter().flat_map(|loaded| &self.slots[loaded.slot].answers_for);
        names.cloned().collect()
    }
}

/// A panic while the lock was held cannot leave the map inconsistent.
fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
