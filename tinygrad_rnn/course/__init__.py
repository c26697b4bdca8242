"""The course: lessons along the chapter, and exercises that grade themselves."""

from .api import grade as grade
from .report import Grades as Grades
