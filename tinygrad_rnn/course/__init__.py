"""The course: lessons along the chapter, and exercises that grade themselves."""

from .api import grade as grade
from .grading.report import Grades as Grades
