"""Callbacks: what is told of the progress of training, and may act on it."""

from layerhub.callbacks.averages import SwapEMAWeights as SwapEMAWeights
from layerhub.callbacks.backup import BackupAndRestore as BackupAndRestore
from layerhub.callbacks.base import HOOKS as HOOKS
from layerhub.callbacks.base import Callback as Callback
from layerhub.callbacks.base import CallbackList as CallbackList
from layerhub.callbacks.logs import BaseLogger as BaseLogger
from layerhub.callbacks.logs import CSVLogger as CSVLogger
from layerhub.callbacks.logs import History as History
from layerhub.callbacks.logs import LambdaCallback as LambdaCallback
from layerhub.callbacks.logs import RemoteMonitor as RemoteMonitor
from layerhub.callbacks.monitors import EarlyStopping as EarlyStopping
from layerhub.callbacks.monitors import ModelCheckpoint as ModelCheckpoint
from layerhub.callbacks.monitors import ReduceLROnPlateau as ReduceLROnPlateau
from layerhub.callbacks.monitors import TerminateOnNaN as TerminateOnNaN
from layerhub.callbacks.progress import ProgbarLogger as ProgbarLogger
from layerhub.callbacks.rates import LearningRateScheduler as LearningRateScheduler
from layerhub.callbacks.tensorboard import TensorBoard as TensorBoard
